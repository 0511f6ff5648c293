// The form strip: one button for each section, and tools for the selected one. Given by Gradio: element, trigger, props,
// watch. Events raised, in quotes so that Gradio makes a listener of each: 'move', 'recompose', 'vary', 'lock'.
const $ = selector => element.querySelector(selector);
const strip = $('.form'), list = $('.sections');
const DRAG_PX = 6;                 // a press that moves less is a click
let form = { doc: 0, sections: [] }, selected = 0, drag = null, focusAfter = -1;

function span(section) { return section.first === section.last ? `bar ${section.first}` : `bars ${section.first} to ${section.last}`; }
function words(k) {
  const section = form.sections[k];
  return `Section ${k + 1} of ${form.sections.length}: ${section.spoken}, ${span(section)}${section.locked ? ', locked' : ''}`;
}
function make(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name; made.textContent = text || '';
  return made;
}
function item(section, k) {
  const made = make('li', ''), button = make('button', section.again ? 'again' : '');
  made.style.setProperty('--bars', section.bars);
  button.type = 'button';
  button.append(make('span', 'name', section.name + (section.locked ? ' 🔒' : '')), make('span', 'bars', `${section.first}–${section.last}`));
  button.setAttribute('aria-label', words(k));
  button.onclick = () => { if (!drag?.moving) choose(k); };
  button.onkeydown = e => keyed(e, k);
  button.onpointerdown = e => { if (e.button === 0) drag = { k, x: e.clientX, moving: false }; };
  made.append(button);
  return made;
}
function receive(value) {
  if (!value || !value.form) return;
  form = JSON.parse(value.form);
  if (selected >= form.sections.length) selected = 0;
  list.replaceChildren(...form.sections.map(item));
  strip.hidden = !form.sections.length;
  strip.dataset.form = form.sections.map(s => s.name).join(' ');
  strip.dataset.doc = form.doc;
  if (focusAfter >= 0 && list.children[focusAfter]) { selected = focusAfter; list.children[focusAfter].firstChild.focus(); }
  focusAfter = -1;
  show();
}
function choose(k) { selected = k; show(); }
function show() {
  [...list.children].forEach((li, k) => li.firstChild.setAttribute('aria-pressed', k === selected));
  const section = form.sections[selected];
  if (!section) return;
  for (const name of ['recompose', 'vary', 'earlier', 'later']) $('.' + name).disabled = section.locked;
  if (selected === 0) $('.earlier').disabled = true;
  if (selected === form.sections.length - 1) $('.later').disabled = true;
  $('.lock').setAttribute('aria-pressed', section.locked);
  $('.lock').textContent = section.locked ? 'Unlock' : 'Lock';
  $('.chosen').textContent = words(selected);
}
function move(k, to) {
  if (to < 0 || to >= form.sections.length || to === k || form.sections[k].locked) return;
  focusAfter = to;
  trigger('move', { doc: form.doc, section: k, to });
}
function keyed(e, k) {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[e.key];
  if (!step || e.ctrlKey || e.metaKey || e.shiftKey) return;
  e.preventDefault(); e.stopPropagation();
  if (e.altKey) return move(k, k + step);
  const next = list.children[k + step];
  if (next) { choose(k + step); next.firstChild.focus(); }
}
function place(x) {                // where a dragged section would go: its new index
  const boxes = [...list.children].map(li => li.getBoundingClientRect());
  const before = boxes.filter((box, k) => k !== drag.k && x > box.left + box.width / 2).length;
  return before;
}
function mark(to) {
  [...list.children].forEach((li, k) => li.classList.remove('before', 'after'));
  if (to === null || to === drag.k) return;
  list.children[to].classList.add(to < drag.k ? 'before' : 'after');
}
function dragged(e) {
  if (!element.isConnected) return leave();
  if (!drag || form.sections[drag.k]?.locked) return;
  if (!drag.moving && Math.abs(e.clientX - drag.x) < DRAG_PX) return;
  if (!drag.moving) { drag.moving = true; list.children[drag.k].firstChild.classList.add('dragged'); }
  mark(place(e.clientX));
}
function dropped(e) {
  if (!drag) return;
  const { k, moving } = drag, to = moving && e.type === 'pointerup' ? place(e.clientX) : k;
  mark(null);
  list.children[k]?.firstChild.classList.remove('dragged');
  setTimeout(() => { drag = null; });   // after the click that ends the drag
  if (moving) { choose(k); move(k, to); }
}
function leave() {
  document.removeEventListener('pointermove', dragged);
  for (const name of ['pointerup', 'pointercancel']) document.removeEventListener(name, dropped);
}
document.addEventListener('pointermove', dragged);
for (const name of ['pointerup', 'pointercancel']) document.addEventListener(name, dropped);
$('.recompose').onclick = () => trigger('recompose', { doc: form.doc, section: selected });
$('.vary').onclick = () => trigger('vary', { doc: form.doc, section: selected });
$('.lock').onclick = () => trigger('lock', { doc: form.doc, section: selected, on: !form.sections[selected].locked });
$('.earlier').onclick = () => move(selected, selected - 1);
$('.later').onclick = () => move(selected, selected + 1);
watch('value', () => receive(props.value));
receive(props.value);
