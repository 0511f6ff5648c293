// Runs once when the page is ready. Gradio's sliders report only a release of the mouse; arrow keys are added here.
() => {
  // Gradio shows nothing when the server refuses a request or does not answer; the roll's status line does.
  const ask = window.fetch.bind(window), calls = /gradio_api\/(run|queue\/join|upload)/;
  const unanswered = sentence => document.dispatchEvent(new CustomEvent('etude:unanswered', { detail: sentence }));
  const send = async (address, options) => {     // the server takes one file a request; Gradio sends all in one
    const files = options && options.body instanceof FormData ? options.body.getAll('files') : [], paths = [];
    if (files.length < 2) return ask(address, options);
    for (const file of files) {
      const body = new FormData();
      body.append('files', file);
      const answer = await ask(address, { ...options, body });
      if (!answer.ok) return answer;
      paths.push(...await answer.json());
    }
    return new Response(JSON.stringify(paths), { headers: { 'Content-Type': 'application/json' } });
  };
  window.fetch = async (address, options) => {
    const ours = calls.test(String((address && address.url) || address));
    try {
      const answer = await send(address, options);
      if (ours && !answer.ok) answer.clone().text().then(text => {
        let sentence = text;
        try { const told = JSON.parse(text); sentence = told.error || told.detail; } catch { /* plain words */ }
        unanswered(typeof sentence === 'string' && sentence && sentence.length < 400 && !/[<{]/.test(sentence)
          ? sentence : `The server refused this request (status ${answer.status}); reload the page and try again.`);
      });
      return answer;
    } catch (problem) {
      if (ours && !(problem && problem.name === 'AbortError')) unanswered('The server does not answer; check the connection, then try again.');
      throw problem;
    }
  };
  const release = e => {
    if (e.target.matches && e.target.matches('input[type=range]') && /^(Arrow|Page|Home|End)/.test(e.key))
      e.target.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  };
  document.addEventListener('keyup', release);
  document.addEventListener('dblclick', e => {    // a double click puts a style slider back where it does nothing
    if (!(e.target.matches && e.target.matches('[id^=axis-] input[type=range], [id^=strength-] input[type=range], #blend input[type=range]'))) return;
    const neutral = e.target.closest('[id^=strength-]') ? 100 : 0;
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(e.target, neutral);
    for (const name of ['input', 'change']) e.target.dispatchEvent(new Event(name, { bubbles: true }));
    e.target.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  });
  // A file dropped anywhere is opened like with Open…, except in the drop area for recordings. While Compare is open,
  // recordings and MIDI files become performances of the open piece.
  const ours = e => e.dataTransfer && [...e.dataTransfer.types].includes('Files') && !(e.target.closest && e.target.closest('#render-recording, input[type=file]'));
  const showDrop = on => { if (on) document.body.dataset.drop = 'here'; else delete document.body.dataset.drop; };
  let leaving = 0;
  document.addEventListener('dragover', e => {
    clearTimeout(leaving); leaving = setTimeout(() => showDrop(false), 400);      // a drag that ends outside the page reports nothing
    showDrop(ours(e)); if (ours(e)) e.preventDefault();
  });
  document.addEventListener('drop', e => {
    showDrop(false);
    const files = e.dataTransfer ? [...e.dataTransfer.files] : [], tab = document.querySelector('#desk [role=tab][aria-selected=true]');
    const compared = tab && tab.id.startsWith('compare') && files.every(f => !/\.(musicxml|xml|mxl|krn|mei|abc|match|etude)$/i.test(f.name));
    const opener = document.querySelector('#compare-files');
    const input = compared && opener ? opener.parentElement.querySelector('input[type=file]') : document.querySelector('#top input[type=file]');
    if (!ours(e) || !input || !files.length) return;
    e.preventDefault();
    const kept = new DataTransfer();
    for (const file of compared ? files : files.slice(0, 1)) kept.items.add(file);
    input.files = kept.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });
  window.addEventListener('pagehide', () => {     // restore the open tab of the panel after a reload
    const side = document.querySelector('#desk [role=tab][aria-selected=true]');
    try { for (const kept of [sessionStorage, localStorage]) kept.setItem('etude-side', side.id.split('-')[0]); } catch { /* no storage here */ }
  });
  // A notice is titled by the server's word for it; Gradio writes its own.
  new MutationObserver(changes => {
    for (const { addedNodes } of changes) for (const made of addedNodes) {
      const title = made.querySelector && made.querySelector('.toast-title');
      if (title && title.textContent.trim() === 'Error') title.textContent = 'Not done';
    }
  }).observe(document.body, { childList: true, subtree: true });
  // The score is open where it fits, until the visitor closes it.
  const fold = () => document.querySelector('#score-box > button');
  const unfold = setInterval(() => {
    if (!fold()) return;
    clearInterval(unfold);
    let kept = ''; try { kept = localStorage.getItem('etude-score') || ''; } catch { /* no storage here */ }
    if (innerWidth >= 1300 && innerHeight >= 840 && kept !== 'closed' && !fold().classList.contains('open')) fold().click();
    document.addEventListener('click', e => {
      if (!e.target.closest || !fold() || e.target.closest('button') !== fold()) return;
      setTimeout(() => { try { localStorage.setItem('etude-score', fold().classList.contains('open') ? 'open' : 'closed'); } catch { /* no storage here */ } }, 50);
    });
  }, 100);
  // A chart that Gradio removed stays in memory while it listens to window resizes.
  new MutationObserver(changes => {
    for (const { removedNodes } of changes) for (const gone of removedNodes) {
      if (!gone.querySelectorAll) continue;
      for (const chart of [gone, ...gone.querySelectorAll('.js-plotly-plot')]) {
        if (chart._responsiveChartHandler && !chart.isConnected) window.removeEventListener('resize', chart._responsiveChartHandler);
      }
    }
  }).observe(document.body, { childList: true, subtree: true });
  // The Export menu: opens under its button, closes with a choice, Escape or a press elsewhere.
  const menu = () => document.querySelector('#export-menu'), opener = () => document.querySelector('#export');
  const openMenu = open => {
    if (open) document.body.dataset.export = 'open'; else delete document.body.dataset.export;
    opener().setAttribute('aria-expanded', open);
    if (open) menu().querySelector('button').focus({ focusVisible: true });
  };
  const labelled = setInterval(() => {
    if (!opener()) return;
    clearInterval(labelled);
    opener().setAttribute('aria-expanded', false); opener().setAttribute('aria-controls', 'export-menu');
    menu().setAttribute('role', 'group'); menu().setAttribute('aria-label', 'Export');
  }, 200);
  document.addEventListener('click', e => {
    if (!e.target.closest) return;
    if (e.target.closest('#export')) return openMenu(!document.body.dataset.export);
    if (!document.body.dataset.export) return;
    const chosen = e.target.closest('#export-menu button');
    if (chosen) opener().focus();
    if (chosen || !e.target.closest('#export-menu')) openMenu(false);
  });
  document.addEventListener('keydown', e => {
    if (!document.body.dataset.export) return;
    const entries = [...menu().querySelectorAll('button')].filter(b => b.offsetParent), at = entries.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[e.key];
    if (e.key !== 'Escape' && (next === undefined || at < 0)) return;
    e.preventDefault(); e.stopPropagation();
    if (e.key === 'Escape') { openMenu(false); opener().focus(); } else entries.at(next % entries.length).focus();
  }, true);
  document.addEventListener('focusin', e => { if (document.body.dataset.export && !e.target.closest('#export-menu, #export')) openMenu(false); });
  // A phone shows one side at a time: the player, or a side of the panel. New takes bring the player back.
  const side = name => { document.body.dataset.phone = name; };
  const toPlayer = Object.assign(document.createElement('button'), { type: 'button', id: 'phone-player', textContent: 'Player' });
  toPlayer.onclick = () => { side('player'); scrollTo(0, 0); };
  document.querySelector('.gradio-container').append(toPlayer);
  side('player');
  document.addEventListener('click', e => {
    if (e.isTrusted && e.target.closest && e.target.closest('#desk > .tab-wrapper [role=tab]')) { side('panel'); scrollTo(0, 0); }
  });
  document.addEventListener('etude:hear', () => side('player'));
  document.addEventListener('etude:dock', () => side('player'));
  // The dock under the roll shows what the panel is about; a widget may ask for its own place in it.
  const dock = name => { const b = document.querySelector(`#dock-${name}-button`); if (b && b.getAttribute('aria-selected') !== 'true') b.click(); };
  document.addEventListener('etude:dock', e => dock(e.detail));
  document.addEventListener('click', e => {
    const side = e.target.closest && e.target.closest('#desk [role=tab]');
    if (!side) return;
    if (side.id.startsWith('perform')) dock('curves');
    if (side.id.startsWith('render') && document.querySelector('#listen .listen:not([hidden])')) dock('sound');
  });
  document.addEventListener('click', e => {       // a worked example ends with sound
    if (e.target.closest && e.target.closest('#start-fugue, #start-nocturne, #start-musicxml'))
      document.dispatchEvent(new CustomEvent('etude:soon'));
  });
}
