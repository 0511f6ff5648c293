// The piano roll, part 8 of 10: the notes as a table, for eyes, ears and keys that a picture does not serve. A page of
// rows stands in the document at a time. Editing a cell is an edit like any other.
const PAGE_ROWS = 100, STAVES = ['–', 'upper', 'lower'], EDITABLE = { 2: 'pitch', 3: 'on', 4: 'dur', 5: 'vel' };
const box = $('.table'), body = $('.table tbody');
let order = [], page = 0, at = { id: 0, column: 2 }, editing = null, refresh = 0;

function toggleTable() {
  box.hidden = !box.hidden;
  $('.notes').setAttribute('aria-expanded', !box.hidden);
  if (box.hidden) return;
  const chosen = [...sel][0];
  sortNotes(); showPage(pageOf(chosen ?? (order[0] && order[0].id)));
  if (chosen) focusCell(chosen, at.column);
}
function refreshTable() {            // after edits and new performances; nothing while it is closed
  if (box.hidden) return;
  clearTimeout(refresh);
  refresh = setTimeout(() => {
    if (editing) return;
    const focused = body.contains(document.activeElement);
    sortNotes(); showPage(notes.has(at.id) && focused ? pageOf(at.id) : page);
    if (focused) focusCell(notes.has(at.id) ? at.id : (order[page * PAGE_ROWS] || {}).id, at.column);
  }, 40);
}
function sortNotes() { order = [...notes.values()].sort((a, b) => a.on - b.on || a.pitch - b.pitch || a.id - b.id); }
const pages = () => Math.max(1, Math.ceil(order.length / PAGE_ROWS));
const pageOf = id => Math.max(0, Math.floor(order.findIndex(n => n.id === id) / PAGE_ROWS));
function beatOf(n) {                 // [bar, beat] as written; of an added note where it is played
  const q = (n.id <= doc.n && score.notes[n.id - 1] ? score.notes[n.id - 1][0] : quarterAt(n.on)) + 1e-3;
  let lo = 0, hi = score.bars.length - 1;
  if (hi < 0) return ['', ''];
  while (lo < hi) { const mid = (lo + hi + 1) >> 1; if (score.bars[mid][0] <= q) lo = mid; else hi = mid - 1; }
  const [start, number, beat = 1, position = 0] = score.bars[lo];
  return [number, +(1 + (q - start + position) / beat).toFixed(2)];
}
function cellsOf(n) {
  const written = n.id <= doc.n && score.notes[n.id - 1];
  return [...beatOf(n), nameOf(n), (n.on / 1000).toFixed(3), (n.dur / 1000).toFixed(3), n.vel, written ? STAVES[written[3]] || '–' : 'added'];
}
function showPage(number) {
  page = Math.min(Math.max(0, number), pages() - 1);
  const first = page * PAGE_ROWS, shown = order.slice(first, first + PAGE_ROWS);
  if (!shown.some(n => n.id === at.id) && shown.length) at = { id: shown[0].id, column: at.column };
  body.replaceChildren(...shown.map((n, i) => {
    const tr = document.createElement('tr');
    tr.dataset.id = n.id; tr.setAttribute('aria-rowindex', first + i + 2); tr.setAttribute('aria-selected', sel.has(n.id));
    cellsOf(n).forEach((text, column) => {
      const cell = document.createElement(column ? 'td' : 'th');
      if (!column) cell.scope = 'row';
      cell.textContent = text; cell.dataset.column = column; cell.setAttribute('role', column ? 'gridcell' : 'rowheader');
      cell.setAttribute('aria-readonly', !(column in EDITABLE));
      cell.tabIndex = n.id === at.id && column === at.column ? 0 : -1;
      tr.append(cell);
    });
    return tr;
  }));
  $('.table table').setAttribute('aria-rowcount', order.length + 1);
  $('.part').textContent = order.length ? `Notes ${first + 1}–${first + shown.length} of ${order.length}` : 'No notes';
  $('.before').disabled = !page; $('.after').disabled = page >= pages() - 1;
  box.dataset.page = page;
}
const cellAt = (id, column) => body.querySelector(`tr[data-id="${id}"] [data-column="${column}"]`);
function focusCell(id, column) {
  if (!notes.has(id)) return;
  if (!cellAt(id, column)) showPage(pageOf(id));
  const before = cellAt(at.id, at.column), cell = cellAt(id, column);
  if (before) before.tabIndex = -1;
  at = { id, column };
  if (!cell) return;
  cell.tabIndex = 0; cell.focus({ preventScroll: false });
}
function followSelection() {         // what is chosen on the roll is marked here, one note is turned to
  if (box.hidden || editing) return;
  const [only] = sel;
  if (sel.size === 1 && !body.contains(document.activeElement) && pageOf(only) !== page) showPage(pageOf(only));
  for (const tr of body.rows) tr.setAttribute('aria-selected', sel.has(+tr.dataset.id));
}
body.addEventListener('focusin', e => {
  const cell = e.target.closest('[data-column]');
  if (!cell || editing) return;
  const id = +cell.parentNode.dataset.id;
  at = { id, column: +cell.dataset.column };
  if (sel.size === 1 && sel.has(id)) return;
  sel = new Set([id]); pedalSel = -1; if (notes.has(id)) reveal(notes.get(id).on);
  showButtons(); paint();
});
function move(rows, columns) {
  const i = order.findIndex(n => n.id === at.id), to = order[Math.min(order.length - 1, Math.max(0, i + rows))];
  if (to) focusCell(to.id, Math.min(6, Math.max(0, at.column + columns)));
}

// ---- editing ----
const TOLD = { 2: 'A note is a name such as C4, F#3 or Bb5, or a number from 0 to 127', 3: 'An onset is 0 to 3600 seconds', 4: 'A duration is 0.01 to 3600 seconds', 5: 'A velocity is a whole number from 1 to 127' };
function pitchFrom(text) {
  const found = /^([A-Ga-g])([#♯b♭]?)(-?\d+)$/.exec(text);
  if (!found) return /^\d+$/.test(text) ? +text : NaN;
  const step = { c: 0, d: 2, e: 4, f: 5, g: 7, a: 9, b: 11 }[found[1].toLowerCase()];
  return 12 * (+found[3] + 1) + step + (found[2] === '' ? 0 : '#♯'.includes(found[2]) ? 1 : -1);
}
function valueFrom(column, text) {
  const plain = text.trim().replace(',', '.'), number = plain === '' ? NaN : Number(plain);
  const value = column === 2 ? pitchFrom(text.trim()) : column === 5 ? number : Math.round(1000 * number);
  const [low, high] = { 2: [0, 127], 3: [0, 3600000], 4: [10, 3600000], 5: [1, 127] }[column];
  return Number.isInteger(value) && value >= low && value <= high ? value : null;
}
function beginEdit(first) {
  const cell = cellAt(at.id, at.column), n = notes.get(at.id);
  if (!(at.column in EDITABLE) || !cell || !n) return;
  const input = document.createElement('input');
  input.value = first ?? cell.textContent; input.setAttribute('aria-label', `${$('.table thead tr').cells[at.column].textContent} of ${describe(n)}`);
  editing = { input, id: at.id, column: at.column };
  cell.replaceChildren(input); input.focus(); if (first === undefined) input.select();
  input.onblur = () => endEdit(true, false);
}
function endEdit(keep, stay = true) {
  if (!editing) return true;
  const { input, id, column } = editing, value = valueFrom(column, input.value);
  if (keep && value === null && stay) { input.setAttribute('aria-invalid', 'true'); say(TOLD[column]); return false; }
  editing = null; input.onblur = null;
  const n = notes.get(id), cell = cellAt(id, column);
  if (cell && n) cell.textContent = cellsOf(n)[column];
  if (stay && cell) cell.focus();
  if (keep && value !== null && n && n[EDITABLE[column]] !== value) {
    const what = { 2: 'transposed', 3: 'moved', 4: 'resized', 5: 'velocity changed' }[column];
    change([id], m => ({ ...m, [EDITABLE[column]]: value }), what);
  } else refreshTable();
  return true;
}
function tableKey(e) {
  const k = e.key, mod = e.ctrlKey || e.metaKey;
  if (editing) {
    if (k === 'Enter' || k === 'Tab') { if (endEdit(true) && k === 'Tab') move(0, e.shiftKey ? -1 : 1); } else if (k === 'Escape') endEdit(false);
    else return e.stopPropagation();
    e.preventDefault(); return e.stopPropagation();
  }
  const act =
    k === 'ArrowDown' ? () => move(1, 0) : k === 'ArrowUp' ? () => move(-1, 0) :
    k === 'ArrowRight' ? () => move(0, 1) : k === 'ArrowLeft' ? () => move(0, -1) :
    k === 'PageDown' ? () => move(PAGE_ROWS, 0) : k === 'PageUp' ? () => move(-PAGE_ROWS, 0) :
    k === 'Home' ? () => mod ? move(-order.length, -6) : move(0, -6) : k === 'End' ? () => mod ? move(order.length, 6) : move(0, 6) :
    k === 'Enter' || k === 'F2' ? () => beginEdit() :
    k === 'Delete' || k === 'Backspace' ? () => { const { id } = at; move(1, 0); if (at.id === id) move(-1, 0); remove([id]); } :
    !mod && !e.altKey && /^[\w.]$/.test(k) && at.column in EDITABLE ? () => beginEdit(k) : null;
  if (act) { e.preventDefault(); e.stopPropagation(); act(); }
}
body.addEventListener('keydown', tableKey);
body.addEventListener('dblclick', e => { const cell = e.target.closest('[data-column]'); if (cell && !editing) beginEdit(); });
body.addEventListener('click', e => { const cell = e.target.closest('[data-column]'); if (cell && !editing) focusCell(+cell.parentNode.dataset.id, +cell.dataset.column); });
$('.before').onclick = () => showPage(page - 1);
$('.after').onclick = () => showPage(page + 1);
$('.to-bar').onchange = e => {
  const found = order.find(n => beatOf(n)[0] === +e.target.value);
  if (found) focusCell(found.id, at.column); else say('That bar has no notes');
};
