// Cards of pianists. Given by Gradio: element, trigger, props, watch. Events raised, in quotes so that Gradio makes a
// listener of each: 'choose', 'sample'. Two bars are heard on hover or focus, softly, and never over the piece.
const box = element.querySelector('.cards'), audio = element.querySelector('audio');
const REST_MS = 380, VOLUME = .55, AGAIN_MS = 300;      // a pointer that only passes by starts nothing
let pianists = [], pointed = '', waiting = 0, playing = false, doc = 0, quarter = 0, took = '';
const label = p => p.traits || 'Balanced';

function receive(value) {
  if (!value) return;
  if (value.cards) { pianists = JSON.parse(value.cards); build(); }
  if (!value.of || value.of !== pointed) return;        // the pointer has left
  if (value.audio && value.audio.url) start(value.audio.url);
  else if (value.again) waiting = setTimeout(() => ask(pointed), AGAIN_MS);
  else mark();
}
function build() {
  box.replaceChildren(...pianists.map(p => {
    const made = document.createElement('button'), traits = document.createElement('span'), name = document.createElement('span');
    made.type = 'button'; made.dataset.name = p.name; made.setAttribute('role', 'radio');
    traits.className = 'traits'; traits.textContent = label(p); name.className = 'name'; name.textContent = p.about;
    made.append(traits, name);
    made.title = `Play like ${p.name}: ${label(p).toLowerCase()}`;
    made.onclick = () => { hush(); took = p.name; trigger('choose', { name: p.name }); mark(); };
    made.onpointerenter = e => { if (e.pointerType !== 'touch') point(p.name); };
    made.onpointerleave = hush;
    made.onfocus = () => { if (made.matches(':focus-visible')) point(p.name); };
    made.onblur = hush;
    made.onkeydown = e => {
      if (e.key === 'Escape' && pointed) { e.stopPropagation(); return hush(); }
      arrowKeys(e);
    };
    return made;
  }));
  mark();
}
function chosen() {                       // the menu under the cards holds the choice
  const shown = document.querySelector('#preset input');
  return shown ? shown.value.split(' · ')[0] : '';
}
function mark() {
  check([...box.children], chosen() || took);
  for (const b of box.children) {
    b.classList.toggle('heard', b.dataset.name === pointed && !audio.paused);
    b.classList.toggle('coming', b.dataset.name === pointed && audio.paused);
  }
  box.dataset.heard = audio.paused ? '' : pointed;
}
function point(name) {
  hush();
  if (playing) return;
  waiting = setTimeout(() => { pointed = name; ask(name); mark(); }, REST_MS);
}
function ask(name) { if (name && name === pointed && !playing) trigger('sample', { name, doc, quarter }); }
function start(url) {
  if (playing) return hush();
  audio.src = url; audio.volume = VOLUME;
  audio.play().then(mark).catch(() => hush());
}
function hush() {
  clearTimeout(waiting);
  pointed = ''; audio.pause();
  mark();
}
audio.addEventListener('ended', hush);
function clock({ detail }) {
  if (!element.isConnected) return document.removeEventListener('etude:clock', clock);
  doc = detail.doc; quarter = detail.quarter; playing = detail.playing;
  if (playing && pointed) hush();
}
function others() { if (!element.isConnected) return document.removeEventListener('etude:sounds', others); if (pointed) hush(); }
function viewed() {
  if (!element.isConnected) return document.removeEventListener('etude:view', viewed);
  const now = chosen();
  if (now !== viewed.last) { viewed.last = now; took = ''; mark(); }
}
document.addEventListener('etude:clock', clock);
document.addEventListener('etude:sounds', others);
document.addEventListener('etude:view', viewed);
watch('value', () => receive(props.value));
receive(props.value);
