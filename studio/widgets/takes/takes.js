// The strip of takes. Given by Gradio: element, trigger, props, watch. Events raised, in quotes so that Gradio makes a
// listener of each: 'preview', 'dismiss'. On `document` it tells the roll what is heard: etude:preview.
const $ = selector => element.querySelector(selector);
const audio = $('audio'), strip = $('.strip'), cards = $('.cards');
const urls = new Map();           // number of a take -> where its sound is, '' when it has none
let takes = [], tabs = [], heard = 0, wanted = 0, asked = 0, askedAt = 0;
let expecting = false;            // the visitor has asked for takes: the first of them is played when it comes
const COMPOSING = '#compose, #continue, #infill-bars, #infill-notes, #models-compose, #models-vary, #form .recompose, #form .vary';
const PATIENCE = 8000;            // milliseconds until a request without an answer is repeated

const PLAY = '<svg viewBox="0 0 16 16" aria-hidden="true"><path class="i-play" d="M4 2.5v11l9-5.5z"/><path class="i-pause" d="M4 2.5h3v11H4zM9 2.5h3v11H9z"/></svg>';
function make(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name; if (text) made.textContent = text;
  return made;
}
function button(name, text, label, act) {
  const made = make('button', name, text);
  made.type = 'button'; made.title = label; made.setAttribute('aria-label', label); made.onclick = act;
  return made;
}
function card(take, place) {
  const made = make('li', 'take'), picture = make('div', 'picture'), name = make('div', 'name');
  made.dataset.number = take.number;
  picture.innerHTML = take.picture;            // numbers only, made by the server
  picture.append(make('span', 'needle'));
  picture.onclick = e => hear(take.number, e);
  name.append(make('span', '', `${take.kind} ${place}`), make('span', 'seed', `seed ${take.seed}`));
  const play = button('play', '', `Preview take ${place}: ${take.figures}`, () => hear(take.number));
  play.innerHTML = PLAY;
  const accept = button('accept', take.here ? 'On the roll' : 'Open', `Open take ${place} on the roll, where it can be edited and downloaded`, () => {
    document.dispatchEvent(new CustomEvent('etude:open-take', { detail: { take: take.number } }));
  });
  const drop = button('drop', '✕', `Discard take ${place}`, () => { if (heard === take.number) silence(); trigger('dismiss', { take: take.number }); });
  const buttons = make('div', 'buttons');
  buttons.append(play, accept, drop);
  if (take.here) made.classList.add('here');
  made.append(picture, name, make('div', 'figures', take.figures), buttons);
  return made;
}
function receive(value) {
  if (!value) return;
  if (value.takes) {
    const known = new Set(takes.map(t => t.number));
    takes = JSON.parse(value.takes); tabs = value.tabs ? JSON.parse(value.tabs) : []; tellTabs();
    const fresh = takes.find(t => !known.has(t.number));
    cards.replaceChildren(...takes.map(t => card(t, t.number)));
    strip.hidden = !takes.length;
    if (fresh) cards.scrollLeft = cards.querySelector(`[data-number="${fresh.number}"]`).offsetLeft - cards.offsetLeft;
    strip.dataset.count = takes.length;
    for (const number of [...urls.keys()]) if (!takes.some(t => t.number === number)) urls.delete(number);
    if (heard && !takes.some(t => t.number === heard)) silence();
    if (fresh && expecting) { expecting = false; if (!fresh.here) hear(fresh.number); }
  }
  if (value.sound_of) {
    urls.set(value.sound_of, value.audio ? value.audio.url : '');
    if (asked === value.sound_of) asked = 0;
    if (wanted === value.sound_of) start(wanted);
  }
  show();
  setTimeout(prepare, 150);
}
function ask(number, quiet) { asked = number; askedAt = performance.now(); trigger('preview', { take: number, quiet }); }
function prepare() {              // make the sounds of new takes beforehand, newest press first
  if (asked && performance.now() - askedAt < PATIENCE) return;
  const next = takes.find(t => !urls.has(t.number));
  if (next) { ask(next.number, true); setTimeout(prepare, PATIENCE + 50); }
}
function hear(number, e) {
  if (e && heard === number && audio.duration) {          // a click in the picture moves there
    const box = e.currentTarget.getBoundingClientRect();
    audio.currentTime = (e.clientX - box.left) / box.width * audio.duration;
    return;
  }
  if (heard === number || wanted === number) return silence();
  silence();
  wanted = number; show();
  document.dispatchEvent(new CustomEvent('etude:hear', { detail: { take: number } }));
  ask(number, false);             // also when its sound is here: the roll shows its notes
  if (urls.get(number)) start(number);
}
function start(number) {
  wanted = 0;
  if (!urls.get(number)) return show();
  if (heard === number && !audio.paused) return;
  heard = number;
  audio.src = urls.get(number);
  document.dispatchEvent(new CustomEvent('etude:sounds', { detail: { by: 'takes' } }));
  audio.play().catch(() => silence());
  show(); tick();
}
function silence() {
  const was = heard;
  wanted = 0; heard = 0; audio.pause();
  if (was) document.dispatchEvent(new CustomEvent('etude:preview', { detail: { take: was, ms: -1 } }));
  show();
}
function show() {
  for (const item of cards.children) {
    const number = +item.dataset.number;
    item.classList.toggle('heard', number === heard);
    const play = item.querySelector('.play');
    play.classList.toggle('waiting', number === wanted);
    play.setAttribute('aria-pressed', number === heard);
  }
  Object.assign(strip.dataset, { heard, ready: [...urls].filter(([, url]) => url).length });
}
function tick() {
  if (!heard || !element.isConnected) return;
  const needle = cards.querySelector(`[data-number="${heard}"] .needle`);
  if (needle && audio.duration) needle.style.left = `${100 * audio.currentTime / audio.duration}%`;
  document.dispatchEvent(new CustomEvent('etude:preview', { detail: { take: heard, ms: audio.currentTime * 1000 } }));
  requestAnimationFrame(tick);
}
audio.addEventListener('ended', silence);
audio.addEventListener('error', () => {      // the file has been cleaned away meanwhile: ask for it again, once
  if (!heard || !audio.getAttribute('src')) return;
  const number = heard;
  silence();
  if (urls.delete(number)) { wanted = number; ask(number, false); }
});
function others(e) {
  if (!element.isConnected) return document.removeEventListener('etude:sounds', others);
  if (e.detail.by !== 'takes') silence();
}
document.addEventListener('etude:sounds', others);
function pressed(e) {             // before the press is acted on
  if (!element.isConnected) return document.removeEventListener('click', pressed, true);
  if (e.target.closest && e.target.closest(COMPOSING)) expecting = true;
}
document.addEventListener('click', pressed, true);
function toggled({ detail }) {    // the roll's Play, while it shows a take or the draft of one
  if (!element.isConnected) return document.removeEventListener('etude:takes', toggled);
  const number = detail.key.startsWith('take') ? +detail.key.slice(4) : takes.length ? takes[0].number : 0;
  if (takes.some(t => t.number === number)) hear(number);
}
document.addEventListener('etude:takes', toggled);
function tellTabs() {             // to the roll, which shows them on its upper edge
  if (!element.isConnected) return document.removeEventListener('etude:tabs-wanted', tellTabs);
  document.dispatchEvent(new CustomEvent('etude:tabs', { detail: tabs }));
}
document.addEventListener('etude:tabs-wanted', tellTabs);
watch('value', () => receive(props.value));
receive(props.value);
