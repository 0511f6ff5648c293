// The piano roll, part 5 of 7: versions of the performance. Python makes one for each gesture; a press goes back to it,
// at the same bar, while it plays. Event raised, in quotes so that Gradio makes a listener of it: 'flip'.
const FLIP_MS = 8000;         // until a request without an answer is given up
let going = 0, goingAt = 0;   // the version that was asked for

function showVersions() {
  const list = doc.versions || [], [was, is] = doc.pair || [0, 0], box = $('.versions');
  if (going && performance.now() - goingAt > FLIP_MS) going = 0;
  const shown = going || doc.version, key = JSON.stringify(list);
  box.hidden = !list.length;
  if (box.dataset.list !== key) {
    box.dataset.list = key;
    $('.tabs').replaceChildren(...list.map(([number, name]) => {
      const made = document.createElement('button');
      made.type = 'button'; made.dataset.version = number; made.setAttribute('role', 'radio');
      made.textContent = `${number} ${name}`; made.title = `Version ${number}: ${name}`;
      made.onclick = () => flip(number);
      made.onkeydown = e => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key], next = step && (step > 0 ? made.nextElementSibling : made.previousElementSibling);
        if (!step) return;
        e.preventDefault(); e.stopPropagation();
        if (next) { next.focus(); next.click(); }
      };
      return made;
    }));
    const last = $('.tabs').lastElementChild;
    if (last) $('.tabs').scrollLeft = last.offsetLeft;
  }
  for (const tab of $('.tabs').children) {
    const on = +tab.dataset.version === shown;
    tab.setAttribute('aria-checked', on); tab.tabIndex = on ? 0 : -1; tab.classList.toggle('coming', on && !!going);
  }
  $('.was').disabled = !was; $('.is').disabled = !was;
  $('.was').setAttribute('aria-pressed', !!was && shown === was); $('.is').setAttribute('aria-pressed', !was || shown === is);
  cv.dataset.version = doc.version || 0; cv.dataset.versions = list.length;
}
function flip(number) {
  if (!number || number === (going || doc.version)) return;
  if (draft) return trigger('refused', { shown: draft.running ? 'writing' : 'take' });
  going = number; goingAt = performance.now();
  trigger('flip', { doc: doc.id, version: number });
  showVersions(); setTimeout(showVersions, FLIP_MS + 50);
}
function flipPair() { const [was, is] = doc.pair || [0, 0]; if (was) flip((going || doc.version) === was ? is : was); }
$('.was').onclick = () => flip(doc.pair[0]);
$('.is').onclick = () => flip(doc.pair[1]);
