// The piano roll, part 5 of 10: versions of the performance. Python makes one for each gesture; a press goes back to it,
// at the same bar, while it plays. Event raised, in quotes so that Gradio makes a listener of it: 'flip'.
const FLIP_MS = 8000;         // until a request without an answer is given up
let going = 0, goingAt = 0;   // the version that was asked for

function showVersions() {
  const list = doc.versions || [], [was, is] = doc.pair || [0, 0], box = $('.versions');
  if (going && performance.now() - goingAt > FLIP_MS) going = 0;
  const shown = going || doc.version;
  box.hidden = !list.length && !takeTabs.length;
  box.classList.toggle('single', list.length < 2 && !takeTabs.length);
  $('.pair').hidden = !list.length;
  fillTabs($('.tabs'), list.map(([number, name]) => [`${number}`, `${number} ${name}`, `Version ${number}: ${name}`]), key => flip(+key));
  markTabs($('.tabs'), `${shown}`, !!going);
  showTakes();
  $('.was').disabled = !was; $('.is').disabled = !was;
  $('.was').setAttribute('aria-pressed', !!was && shown === was); $('.is').setAttribute('aria-pressed', !was || shown === is);
  cv.dataset.version = doc.version || 0; cv.dataset.versions = list.length;
}
function fillTabs(row, list, press) {     // list: [[key, text, title], ...]
  const made = JSON.stringify(list);
  if (row.dataset.list === made) return;
  row.dataset.list = made;
  row.replaceChildren(...list.map(([key, text, title]) => {
    const tab = document.createElement('button');
    Object.assign(tab, { type: 'button', textContent: text, title, onclick: () => press(key) });
    tab.dataset.key = key; tab.setAttribute('role', 'radio');
    tab.onkeydown = e => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key], next = step && (step > 0 ? tab.nextElementSibling : tab.previousElementSibling);
      if (!step) return;
      e.preventDefault(); e.stopPropagation();
      if (next) { next.focus(); next.click(); }
    };
    return tab;
  }));
  if (row.lastElementChild) row.scrollLeft = row.lastElementChild.offsetLeft;
}
function markTabs(row, shown, coming) {
  const any = [...row.children].some(tab => tab.dataset.key === shown);
  for (const [k, tab] of [...row.children].entries()) {
    const on = tab.dataset.key === shown;
    tab.setAttribute('aria-checked', on); tab.tabIndex = on || (!any && !k) ? 0 : -1; tab.classList.toggle('coming', on && coming);
  }
}
function flip(number) {
  if (!number || number === (going || doc.version)) return;
  if (draft && draft.running) return trigger('refused', { shown: 'writing' });
  if (draft) leaveDraft();         // versions are those of the piece
  going = number; goingAt = performance.now();
  trigger('flip', { doc: doc.id, version: number });
  showVersions(); setTimeout(showVersions, FLIP_MS + 50);
}
function flipPair() { const [was, is] = doc.pair || [0, 0]; if (was) flip((going || doc.version) === was ? is : was); }
$('.was').onclick = () => flip(doc.pair[0]);
$('.is').onclick = () => flip(doc.pair[1]);
