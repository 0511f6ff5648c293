// The engraved score, part 2 of 2: choosing notes and bars by mouse, touch and keyboard.
const REACH = 12;            // pixels by which a note may be missed
let anchor = null, last = -1;    // the bar where a range begins; the note that the arrow keys go on from

const rowsIn = (first, end) => {     // the notes that begin in these bars
  const { barlines, onsets } = shown.about, [from, to] = [barlines[first], barlines[end + 1]], edge = 1e-4;
  return onsets.flatMap((q, row) => (q >= from - edge || first === 0) && (q < to - edge || end === barlines.length - 2) ? [row] : []);
};
const barName = bar => shown.about.numbers[bar];
const placeOf = row => `bar ${barName(barAt(shown.about.onsets[row]))}`;

function pick(rows, bars, publish = true) {
  for (const row of picked) mark(row, 'picked', false);
  picked = new Set(rows); pickedBars = bars;
  for (const row of picked) mark(row, 'picked', true);
  showBars();
  paper.dataset.picked = picked.size;
  if (!publish) return;
  const notes = [...picked].sort((a, b) => a - b);
  say(bars ? (bars[0] === bars[1] ? `Bar ${barName(bars[0])}` : `Bars ${barName(bars[0])} to ${barName(bars[1])}`) + `, ${notes.length} notes` :
    notes.length === 1 ? `${shown.about.names[notes[0]]}, ${placeOf(notes[0])}` : notes.length ? `${notes.length} notes selected` : '');
  document.dispatchEvent(new CustomEvent('etude:selection', { detail: { doc: here.doc, notes, bars, by: 'score' } }));
  trigger('select', { doc: here.doc, notes, bars });
}
function pickBars(from, to) {
  const bars = [Math.min(from, to), Math.max(from, to)];
  pick(rowsIn(...bars), bars);
}
function heard({ detail }) {         // the roll's selection is ours
  if (!element.isConnected) return document.removeEventListener('etude:selection', heard);
  if (detail.by === 'score' || detail.doc !== here.doc || !shown.about || shown.digest !== here.digest) return;
  pick(detail.notes, detail.bars, false);
  say('');
  if (detail.notes.length) { last = detail.notes[0]; reveal(barAt(shown.about.onsets[last])); }
}
document.addEventListener('etude:selection', heard);
function seek(quarter) {
  document.dispatchEvent(new CustomEvent('etude:seek', { detail: { doc: here.doc, quarter } }));
}

// ---- mouse, pen and touch ----
function noteAt(x, y, place) {
  let best = -1, nearest = REACH;
  for (const g of place.g.querySelectorAll('g.note[id^=note-]')) {
    const r = (g.querySelector('.notehead') || g).getBoundingClientRect();
    const off = Math.hypot(Math.max(r.left - x, 0, x - r.right), Math.max(r.top - y, 0, y - r.bottom));
    if (off < nearest) { nearest = off; best = +g.id.split('-')[1]; }
  }
  return best;
}
function hit(e) {                    // {row, bar}, -1 for neither
  for (const sheet of shown.sheets) {
    const page = sheet.div.getBoundingClientRect();
    if (e.clientY < page.top || e.clientY > page.bottom) continue;
    const x = (e.clientX - page.left) / page.width, y = (e.clientY - page.top) / page.height;
    const near = barsOf(sheet).filter(b => x >= b.x && x <= b.x + b.w);
    const gap = b => Math.max(b.y - y, 0, y - b.y - b.h);
    const place = near.sort((a, b) => gap(a) - gap(b))[0];
    if (!place || gap(place) > place.h) continue;
    return { row: noteAt(e.clientX, e.clientY, place), bar: place.bar };
  }
  return { row: -1, bar: -1 };
}
let pressed = null;
paper.addEventListener('pointerdown', e => { pressed = shown.about && shown.digest === here.digest && e.button === 0 ? { ...hit(e), x: e.clientX, y: e.clientY } : null; });
paper.addEventListener('pointercancel', () => { pressed = null; });     // a finger that scrolls
paper.addEventListener('pointerup', e => {
  const from = pressed; pressed = null;
  if (!from || !shown.about || e.offsetX > paper.clientWidth) return;
  const to = hit(e), far = Math.hypot(e.clientX - from.x, e.clientY - from.y) > 8;
  if (far && e.pointerType === 'touch') return;
  if (far) { if (from.bar >= 0 && to.bar >= 0) { anchor = from.bar; pickBars(from.bar, to.bar); } return; }
  if (to.row >= 0) {
    const rows = new Set(e.shiftKey || e.ctrlKey || e.metaKey ? picked : []);
    if (!rows.delete(to.row)) rows.add(to.row);
    last = to.row; anchor = to.bar;
    pick(rows, null);
  } else if (to.bar >= 0) {
    if (!e.shiftKey || anchor === null) anchor = to.bar;
    pickBars(anchor, to.bar);
  } else pick([], null);
});
paper.addEventListener('dblclick', e => {
  const { row, bar } = shown.about ? hit(e) : { row: -1, bar: -1 };
  if (row >= 0) seek(shown.about.onsets[row]); else if (bar >= 0) seek(shown.about.barlines[bar]);
});

// ---- keyboard ----
function chosen(row) {
  last = row; anchor = barAt(shown.about.onsets[row]);
  pick([row], null); reveal(anchor);
}
function step(direction) {           // to the next onset, the note nearest in pitch order
  const { onsets } = shown.about;
  if (last < 0 || last >= onsets.length) return chosen(direction > 0 ? 0 : onsets.length - 1);
  let row = last;
  while (row >= 0 && row < onsets.length && Math.abs(onsets[row] - onsets[last]) < 1e-4) row += direction;
  if (row >= 0 && row < onsets.length) chosen(row);
}
function within(direction) {         // up or down a chord
  const { onsets } = shown.about;
  if (last < 0) return chosen(0);
  const row = last + direction;
  if (row >= 0 && row < onsets.length && Math.abs(onsets[row] - onsets[last]) < 1e-4) chosen(row);
}
function turn(direction, extend) {   // a bar on
  const count = shown.about.bar_page.length;
  const at = pickedBars ? (pickedBars[0] === anchor ? pickedBars[1] : pickedBars[0]) : last >= 0 ? barAt(shown.about.onsets[last]) - direction : direction > 0 ? -1 : count;
  const bar = Math.min(count - 1, Math.max(0, at + direction));
  if (!extend || anchor === null) anchor = bar;
  pickBars(anchor, bar); reveal(bar);
  last = rowsIn(bar, bar)[0] ?? last;
}
paper.addEventListener('keydown', e => {
  if (!shown.about || shown.digest !== here.digest || e.ctrlKey || e.metaKey || e.altKey) return;
  const act = {
    ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowUp: () => within(1), ArrowDown: () => within(-1),
    PageDown: () => turn(1, e.shiftKey), PageUp: () => turn(-1, e.shiftKey),
    Home: () => { last = -1; step(1); }, End: () => { last = -1; step(-1); },
    Enter: () => { if (pickedBars) seek(shown.about.barlines[pickedBars[0]]); else if (last >= 0) seek(shown.about.onsets[last]); },
    Escape: picked.size || pickedBars ? () => pick([], null) : null,
  }[e.key];
  if (!act) return;
  e.preventDefault(); e.stopPropagation(); act();
});

watch('value', () => receive(props.value));   // only when Python sets it
receive(props.value);
