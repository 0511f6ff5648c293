// The contrast of all text against what lies behind it, WCAG 2: the places below 4.5 (large text 3), one line each.
() => {
    const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
    canvas.canvas.width = canvas.canvas.height = 1;
    const parse = (text) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = text;
        canvas.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3])).concat(1);
    const light = (c) => {
        const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (e) => {
        const layers = [];
        for (let x = e; x; x = x.parentElement) {
            const style = getComputedStyle(x);
            if (style.backgroundImage !== 'none') return null;
            layers.push(parse(style.backgroundColor));
            if (layers.at(-1)[3] === 1) break;
        }
        const dark = document.body.classList.contains('dark');
        return layers.reduceRight((below, top) => over(top, below), dark ? [9, 9, 11, 1] : [255, 255, 255, 1]);
    };
    const wrong = new Set();
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const e = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
        if (!text || !e || e.closest('svg,script,style,[disabled],[aria-disabled=true],[aria-hidden=true],canvas')) continue;
        const style = getComputedStyle(e), box = e.getBoundingClientRect();
        if (!box.width || !box.height || style.visibility === 'hidden' || style.clip !== 'auto') continue;
        let opacity = 1;
        for (let x = e; x; x = x.parentElement) opacity *= +getComputedStyle(x).opacity;
        const back = behind(e);
        if (!back || opacity < 0.1) continue;
        const colour = parse(style.color);
        const front = over([...colour.slice(0, 3), colour[3] * opacity], back);
        const [a, b] = [light(front), light(back)].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
        const ratio = (a + 0.05) / (b + 0.05);
        const near = e.closest('[id]');
        if (ratio < (large ? 3 : 4.5)) wrong.add(`${ratio.toFixed(2)}: "${text.slice(0, 30)}" in #${near?.id}`);
    }
    return [...wrong];
}
