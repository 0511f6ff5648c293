// Once the page has loaded: read the browser's storage, this tab's number and its last panel. A tab's
// work is its own. A duplicated tab starts with the same number, so it checks with the other tabs.
async (browser, ...rest) => {
  const told = { ...(browser || {}) };
  const hex = bytes => [...bytes].map(b => b.toString(16).padStart(2, '0')).join('');
  try {
    const tabs = new BroadcastChannel('etude-tabs'), key = 'etude-tab';
    let tab = sessionStorage.getItem(key);
    if (tab) {
      const taken = new Promise(done => {
        tabs.onmessage = e => { if (e.data === `mine ${tab}`) done(true); };
        setTimeout(done, 150, false);
      });
      tabs.postMessage(`whose ${tab}`);
      if (await taken) tab = null;
    }
    tab = tab || hex(crypto.getRandomValues(new Uint8Array(12)));
    tabs.onmessage = e => { if (e.data === `whose ${tab}`) tabs.postMessage(`mine ${tab}`); };
    sessionStorage.setItem(key, tab);
    told.tab = tab;
    told.side = sessionStorage.getItem('etude-side') || localStorage.getItem('etude-side');
  } catch { /* no storage in this browser: the tabs share one memory */ }
  return [told, ...rest];
}
