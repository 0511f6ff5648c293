// Looks at the page as a screen reader and a weak eye do. Returns what is wrong, one line each.
() => {
    const shown = (e) => {
        const style = getComputedStyle(e), box = e.getBoundingClientRect();
        return style.visibility !== 'hidden' && style.display !== 'none' && box.width > 0 && box.height > 0
            && !e.closest('[aria-hidden=true]');
    };
    const words = (id) => id.split(/\s+/).map((one) => document.getElementById(one)?.textContent ?? '').join(' ');
    const labels = (e) => [...(e.labels ?? [])].map((label) => label.textContent).join(' ');
    const inside = (e) => [e.textContent, ...[...e.querySelectorAll('img,[aria-label],title')].map(
        (x) => x.getAttribute('alt') || x.getAttribute('aria-label') || x.textContent)].join(' ');
    const named = (e) => [e.getAttribute('aria-label'), words(e.getAttribute('aria-labelledby') ?? ''), labels(e),
        /^(INPUT|SELECT|TEXTAREA)$/.test(e.tagName) ? '' : inside(e), e.title].some((text) => text?.trim());
    const where = (e) => {
        const near = e.closest('[id]');
        return `${near ? '#' + near.id : ''} <${e.tagName.toLowerCase()} class="${e.getAttribute('class') ?? ''}">`;
    };
    const wrong = [];
    const focusable = 'a[href],button,input:not([type=hidden]),select,textarea,[tabindex]:not([tabindex="-1"]),audio[controls]';
    for (const e of document.querySelectorAll(focusable)) {
        if (shown(e) && !named(e)) wrong.push(`no name: ${where(e)}`);
    }
    for (const e of document.querySelectorAll('img')) {
        if (shown(e) && !e.hasAttribute('alt')) wrong.push(`no alternative text: ${where(e)}`);
    }
    let level = 0;
    for (const e of document.querySelectorAll('h1,h2,h3,h4,h5,h6')) {
        if (!shown(e)) continue;
        if (+e.tagName[1] > level + 1) wrong.push(`heading ${e.tagName} after level ${level}: ${e.textContent.trim()}`);
        level = +e.tagName[1];
    }
    if (!document.querySelector('h1')) wrong.push('the page has no first heading');
    if (!document.documentElement.lang) wrong.push('the page names no language');
    if (!document.title) wrong.push('the page has no title');
    if (!document.querySelector('[role=status],[aria-live=polite]')) wrong.push('no live region');
    return wrong;
}
