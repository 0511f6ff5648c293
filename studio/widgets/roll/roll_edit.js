// The piano roll, part 10 of 10: edits by mouse, touch and keyboard. Every change is a patch; undo is the inverse patch.
const row = n => [n.id, n.pitch, Math.round(n.on), Math.round(n.dur), n.vel];
const spansOf = list => list.map(([a, b]) => [Math.round(a), Math.max(Math.round(a) + 1, Math.round(b))]);

function apply(patch) {
  for (const id of patch.del) notes.delete(id);
  for (const r of patch.put) notes.set(...fromRow(r));
  if ('pedal' in patch) { ownPedal = patch.pedal !== null; pedal = ownPedal ? patch.pedal : doc.pianistPedal; pedalSel = -1; }
  sel = new Set([...sel].filter(id => notes.has(id)));
  mapImage = null;
  refreshTable();
}
function publish(patch, label, fresh = false) {
  hush(true); backToPiece(); answered();
  rev += 1;
  sent.push({ rev, patch }); if (sent.length > 500) sent.shift();
  trigger('edit', { doc: doc.id, rev, fresh, ...patch });
  asked = 0;
  live.textContent = label; showButtons(); settle(350); paint();
}
function commit(patch, inverse, label) {
  apply(patch); undo.push({ undo: inverse, redo: patch, label }); redo = []; doc.future = null; publish(patch, label, true);
}
function stepBack() { const s = undo.pop(); if (s) { redo.push(s); apply(s.undo); publish(s.undo, 'Undone: ' + s.label); } else turn(true); stepped = performance.now(); }
function stepForward() { const s = redo.pop(); if (s) { undo.push(s); apply(s.redo); publish(s.redo, 'Redone: ' + s.label); } else turn(false); stepped = performance.now(); }
const many = (ids, what) => ids.length === 1 ? `${nameOf(notes.get(ids[0]))} ${what}` : `${ids.length} notes ${what}`;
function change(ids, fn, what) {
  const before = ids.map(id => row(notes.get(id))), after = ids.map(id => row(fn({ ...notes.get(id) })));
  if (JSON.stringify(before) === JSON.stringify(after)) return;
  commit({ put: after, del: [] }, { put: before, del: [] }, '');
  undo[undo.length - 1].label = live.textContent = many(ids, what);
}
function remove(ids) {
  if (ids.length) commit({ put: [], del: ids }, { put: ids.map(i => row(notes.get(i))), del: [] }, many(ids, 'deleted'));
}
function add(rows, what) {
  rows = rows.map(([pitch, on, dur, vel]) => [nextId++, clampPitch(pitch), Math.max(0, on), Math.max(10, dur), vel]);
  sel = new Set(rows.map(r => r[0]));
  commit({ put: rows, del: [] }, { put: [], del: rows.map(r => r[0]) }, '');
  undo[undo.length - 1].label = live.textContent = many(rows.map(r => r[0]), what);
}
function setPedal(spans, what) {
  const before = ownPedal ? spansOf(pedal) : null;
  commit({ put: [], del: [], pedal: spansOf(spans).sort((a, b) => a[0] - b[0]) }, { put: [], del: [], pedal: before }, what);
}
function nameOf(n) { return NAMES[n.pitch % 12] + (Math.floor(n.pitch / 12) - 1); }
function placeOf(ms) {
  const q = quarterAt(ms) + 1e-3; let bar = score.bars[0];
  for (const b of score.bars) if (b[0] <= q) bar = b;
  return bar ? `bar ${bar[1]}, quarter ${(q - bar[0] + 1).toFixed(1)}` : `${(ms / 1000).toFixed(1)} s`;
}
const describe = n => `${nameOf(n)}, ${placeOf(n.on)}, velocity ${n.vel}, ${(n.dur / 1000).toFixed(2)} s`;
function select(ids, text) {
  sel = new Set(ids); pedalSel = -1;
  if (sel.size === 1) live.textContent = describe(notes.get([...sel][0])); else live.textContent = text || (sel.size ? `${sel.size} notes selected` : '');
  showButtons(); paint();
}

// ---- mouse, pen and touch ----
function hit(x, y) {
  if (y < RULER_H || y >= pedalY() || x < KEY_W) return null;
  const p = P(y); let best = null, nearest = 1e9;
  for (const n of notes.values()) {
    if (n.pitch !== p) continue;
    const a = X(n.on) - 2, b = Math.max(X(n.on + n.dur), X(n.on) + 4) + 1;
    if (x >= a && x <= b && x - a < nearest) { best = n; nearest = x - a; }
  }
  return best;
}
const edge = (n, x) => X(n.on + n.dur) - x < Math.min(EDGE, n.dur * view.pxPerMs / 3);
function pedalHit(x) { return pedal.findIndex(([a, b]) => x >= X(a) - 4 && x <= X(b) + 4); }
function mapTo(x) { const span = (width() - KEY_W) / view.pxPerMs; scrollTo((x - KEY_W) / (width() - KEY_W) * (endMs() + 500) - span / 2); paint(); }
function pedalDown(e, x) {
  const i = pedalHit(x);
  if (i >= 0 && (e.button === 2 || e.altKey)) return setPedal(pedal.filter((_, k) => k !== i), 'Pedal deleted');
  if (i >= 0) {
    const [a, b] = pedal[i], side = Math.abs(x - X(a)) < 5 ? 0 : Math.abs(x - X(b)) < 5 ? 1 : 2;
    sel.clear(); pedalSel = i; drag = { kind: 'pedal', i, side, x0: x, x, spans: pedal };
  } else { pedalSel = -1; drag = { kind: 'pedal', i: pedal.length, side: 1, x0: x, x, made: snap(T(x)), spans: pedal }; }
  paint();
}
function pedalMoved(d) {
  const spans = pedal.map(s => [...s]);
  if (d.made !== undefined) { const t = snap(T(d.x)); if (Math.abs(d.x - d.x0) > 3) spans.push([Math.min(d.made, t), Math.max(d.made, t)]); return spans; }
  const dt = T(d.x) - T(d.x0), [a, b] = spans[d.i];
  if (d.side === 0) spans[d.i][0] = Math.min(b - 20, Math.max(0, snap(a + dt)));
  else if (d.side === 1) spans[d.i][1] = Math.max(a + 20, snap(b + dt));
  else { const start = Math.max(0, snap(a + dt)); spans[d.i] = [start, start + b - a]; }
  return spans;
}
cv.addEventListener('pointerdown', e => {
  cv.focus({ preventScroll: true }); cv.setPointerCapture(e.pointerId);
  const x = e.offsetX, y = e.offsetY;
  cursor.shown = false;
  if (draft && draft.running && y < mapY()) return;
  if (draft && y < mapY()) return openShown();          // a take that is shown can be edited
  if (!doc.id) return;
  if (y >= mapY()) { drag = { kind: 'map' }; return mapTo(x); }
  if (x < KEY_W) { if (y > RULER_H && y < pedalY()) beep(clampPitch(P(y))); return; }
  if (y < RULER_H) return rulerDown(e, x);
  if (y >= velY()) {
    let near = [...notes.values()].filter(n => Math.abs(X(n.on) - x) < 5);
    if (!near.length) return;
    const ids = near.some(n => sel.has(n.id)) ? new Set(sel) : new Set(near.map(n => n.id));
    drag = { kind: 'vel', ids, x0: x, y0: y, dv: 0 };
    return select(ids);
  }
  if (y >= pedalY()) return pedalDown(e, x);
  const n = hit(x, y);
  if (n && (e.button === 2 || (e.altKey && !e.shiftKey))) return remove(sel.has(n.id) ? [...sel] : [n.id]);
  if (e.button === 2) return;
  if (n) {
    if (e.shiftKey || e.ctrlKey || e.metaKey) { const s = new Set(sel); if (!s.delete(n.id)) s.add(n.id); select(s); if (!sel.has(n.id)) return; }
    else if (!sel.has(n.id)) select([n.id]);
    beep(n.pitch, n.vel);
    drag = { kind: edge(n, x) ? 'size' : 'move', x0: x, y0: y, dt: 0, dp: 0, ids: new Set(sel), lead: n, t0: view.t0 };
  } else if (e.pointerType === 'touch' && tool === 'select') drag = { kind: 'pan', x0: x, t0: view.t0 };
  else if (tool === 'draw' && !e.shiftKey) { select([]); drag = { kind: 'draw', on: snap(T(x)), pitch: clampPitch(P(y)), x0: x, x }; beep(clampPitch(P(y))); }
  else drag = { kind: 'box', x0: x, y0: y, x, y, keep: e.shiftKey ? new Set(sel) : new Set() };
  paint();
});
cv.addEventListener('pointermove', e => {
  const x = e.offsetX, y = e.offsetY, d = drag;
  if (!d) {
    const n = hit(x, y);
    cv.style.cursor = y < RULER_H && loopEdge(x) >= 0 ? 'ew-resize' : y >= mapY() || y < RULER_H ? 'pointer' : y >= velY() ? 'ns-resize' : y >= pedalY() ? 'ew-resize' :
      n ? (edge(n, x) ? 'ew-resize' : 'grab') : tool === 'draw' ? 'crosshair' : 'default';
    return;
  }
  d.x = x; d.y = y;
  if (d.kind === 'map') return mapTo(x);
  if (d.kind === 'seek') return seek(T(x));
  if (d.kind === 'loop') return loopMoved(d, x);
  if (d.kind === 'pan') scrollTo(d.t0 - (x - d.x0) / view.pxPerMs);
  if (d.kind === 'pedal') d.spans = pedalMoved(d);
  if (d.kind === 'vel') { d.dv = Math.round((d.y0 - y) / (VEL_H - 10) * 127); live.textContent = `velocity ${moved(notes.get([...d.ids][0])).vel}`; }
  if (d.kind === 'move' || d.kind === 'size') {
    const raw = T(x) - T(d.x0), at = d.kind === 'move' ? d.lead.on : d.lead.on + d.lead.dur;
    d.dt = Math.abs(x - d.x0) < 3 ? 0 : snapQuarter ? snap(at + raw) - at : Math.round(raw / SNAP_FREE) * SNAP_FREE;
    const dp = P(y) - P(d.y0);
    if (d.kind === 'move' && dp !== d.dp) { d.dp = dp; beep(clampPitch(d.lead.pitch + dp), d.lead.vel); }
  }
  paint();
});
function release(e) {
  const d = drag; drag = null; if (!d) return;
  const x = e.offsetX, y = e.offsetY, ids = d.ids ? [...d.ids].filter(id => notes.has(id)) : [];
  if (d.kind === 'loop') loopMade(d);
  else if (d.kind === 'draw') {
    const dur = Math.abs(x - d.x0) < 4 ? Math.round(msAt(quarterAt(d.on) + (snapQuarter || .5)) - d.on) : snap(T(x)) - d.on;
    add([[d.pitch, d.on, Math.max(30, dur), 72]], 'added');
  } else if (d.kind === 'move' && (d.dt || d.dp)) change(ids, n => ({ ...n, on: Math.max(0, n.on + d.dt), pitch: clampPitch(n.pitch + d.dp) }), 'moved');
  else if (d.kind === 'size' && d.dt) change(ids, n => ({ ...n, dur: Math.max(10, n.dur + d.dt) }), 'resized');
  else if (d.kind === 'vel' && d.dv) change(ids, n => ({ ...n, vel: Math.min(127, Math.max(1, n.vel + d.dv)) }), 'velocity changed');
  else if (d.kind === 'pedal' && d.x !== d.x0) { const spans = pedalMoved(d); if (JSON.stringify(spans) !== JSON.stringify(pedal)) setPedal(spans, 'Pedal changed'); }
  else if (d.kind === 'box') {
    if (Math.abs(x - d.x0) < 3 && Math.abs(y - d.y0) < 3) { cursor.ms = snap(T(x)); cursor.pitch = clampPitch(P(y)); return select(d.keep); }
    const [a, b] = [T(Math.min(d.x0, x)), T(Math.max(d.x0, x))], [lo, hi] = [P(Math.max(d.y0, y)), P(Math.min(d.y0, y))];
    for (const n of notes.values()) if (n.on < b && n.on + n.dur > a && n.pitch >= lo && n.pitch <= hi) d.keep.add(n.id);
    select(d.keep);
  }
  paint();
}
cv.addEventListener('pointerup', release);
cv.addEventListener('pointercancel', () => { drag = null; paint(); });
cv.addEventListener('dblclick', e => {
  const x = e.offsetX, y = e.offsetY;
  if (tool !== 'select' || !doc.id || performance.now() - dropped < 500 || x < KEY_W || y < RULER_H || y >= pedalY() || hit(x, y)) return;
  const on = snap(T(x));
  add([[P(y), on, Math.round(msAt(quarterAt(on) + (snapQuarter || .5)) - on), 72]], 'added');
  beep(clampPitch(P(y)));
});
cv.addEventListener('contextmenu', e => e.preventDefault());
function wheeled({ x, deltaX, deltaY, zoom: closer, pitch }) {
  if (closer) return zoom(deltaY < 0 ? 1.2 : 1 / 1.2, x);
  if (pitch && !deltaX) { const s = deltaY > 0 ? -2 : 2; if (view.lo + s >= 0 && view.hi + s <= 127) { view.lo += s; view.hi += s; mapImage = null; } }
  else scrollTo(view.t0 + (deltaX || deltaY) / view.pxPerMs / 1.5);
  paint();
}
cv.addEventListener('wheel', e => {
  e.preventDefault();
  wheeled({ x: e.offsetX, deltaX: e.deltaX, deltaY: e.deltaY, zoom: e.ctrlKey || e.metaKey, pitch: e.shiftKey });
}, { passive: false });
listen('wheel', wheeled);      // from the lens, which has the same axis
listen('axis', paint);

// ---- keyboard ----
let clipboard = [];     // [pitch, quarters after the first, length in quarters, velocity]
function copy(ids) {
  const picked = ids.map(id => notes.get(id)).sort((a, b) => a.on - b.on);
  if (!picked.length) return;
  const start = quarterAt(picked[0].on);
  clipboard = picked.map(n => [n.pitch, quarterAt(n.on) - start, quarterAt(n.on + n.dur) - quarterAt(n.on), n.vel]);
  live.textContent = picked.length === 1 ? '1 note copied' : `${picked.length} notes copied`;
}
function paste() {
  if (!clipboard.length) return;
  const at = quarterAt(cursor.shown || !soundTag ? cursor.ms : playheadMs() || cursor.ms);
  add(clipboard.map(([pitch, q, len, vel]) => {
    const on = Math.round(msAt(at + q)); return [pitch, on, Math.round(msAt(at + q + len) - on), vel];
  }), 'pasted');
}
function neighbour(step) {
  const order = [...notes.values()].sort((a, b) => a.on - b.on || a.pitch - b.pitch);
  if (!order.length) return;
  const here = order.findIndex(n => sel.has(n.id));
  const n = order[here < 0 ? Math.max(0, order.findIndex(m => m.on >= view.t0)) : Math.min(order.length - 1, Math.max(0, here + step))];
  cursor.ms = n.on; cursor.pitch = n.pitch; reveal(n.on); select([n.id]); beep(n.pitch, n.vel);
}
function reveal(ms) { if (X(ms) < KEY_W || X(ms) > width() - 30) scrollTo(ms - 0.3 * (width() - KEY_W) / view.pxPerMs); }
function moveCursor(quarters, semitones) {
  cursor.shown = true;
  cursor.ms = Math.max(0, Math.round(msAt(Math.round((quarterAt(cursor.ms) + quarters) * 48) / 48)));
  cursor.pitch = clampPitch(cursor.pitch + semitones);
  if (cursor.pitch > view.hi || cursor.pitch < view.lo) { view.hi += semitones; view.lo += semitones; mapImage = null; }
  reveal(cursor.ms); live.textContent = `cursor ${nameOf(cursor)}, ${placeOf(cursor.ms)}`; paint();
}
function enter() {
  const under = [...notes.values()].find(n => n.pitch === cursor.pitch && cursor.ms >= n.on - 15 && cursor.ms < n.on + n.dur);
  if (under) return select([under.id]);
  add([[cursor.pitch, cursor.ms, Math.round(msAt(quarterAt(cursor.ms) + (snapQuarter || .5)) - cursor.ms), 72]], 'added'); beep(cursor.pitch);
}
function setTool(name) {
  tool = name;
  for (const b of element.querySelectorAll('.tool')) b.setAttribute('aria-checked', b.dataset.tool === name);
}
function toggleScore() { showScore = !showScore; $('.ghost').setAttribute('aria-pressed', showScore); paint(); }
function reperform() { const ids = [...sel].filter(id => id <= doc.n); if (ids.length) { backToPiece(); say(`Playing ${ids.length} notes again`); trigger('reperform', { doc: doc.id, ids }); } }
function arrow(e, k, ids) {
  const across = k === 'arrowleft' ? -1 : k === 'arrowright' ? 1 : 0, up = k === 'arrowup' ? 1 : k === 'arrowdown' ? -1 : 0;
  if (!ids.length) return moveCursor(across * (e.shiftKey ? 1 : snapQuarter || .25), up * (e.shiftKey ? 12 : 1));
  if (e.altKey && across) return change(ids, n => ({ ...n, dur: Math.max(10, n.dur + across * 20) }), across > 0 ? 'longer' : 'shorter');
  if (e.altKey) return change(ids, n => ({ ...n, vel: Math.min(127, Math.max(1, n.vel + up * 4)) }), up > 0 ? 'louder' : 'softer');
  if (up) { change(ids, n => ({ ...n, pitch: clampPitch(n.pitch + up * (e.shiftKey ? 12 : 1)) }), 'transposed'); return beep(notes.get(ids[0]).pitch); }
  const far = n => e.shiftKey ? Math.round(msAt(quarterAt(n.on) + across)) : snapQuarter ? Math.round(msAt(quarterAt(n.on) + across * snapQuarter)) : n.on + across * SNAP_FREE;
  change(ids, n => ({ ...n, on: Math.max(0, far(n)) }), across > 0 ? 'later' : 'earlier');
}
function escape() { if (!$('.ask').hidden) answered(); else if (draft && !draft.running) leaveDraft(); else if (sel.size || pedalSel >= 0 || cursor.shown) { cursor.shown = false; select([]); } else stop(); }
cv.addEventListener('keydown', e => {
  const mod = e.ctrlKey || e.metaKey, k = e.key.toLowerCase(), ids = [...sel];
  const act =
    k === 'delete' || k === 'backspace' ? () => pedalSel >= 0 ? setPedal(pedal.filter((_, i) => i !== pedalSel), 'Pedal deleted') : remove(ids) :
    mod && k === 'z' ? () => e.shiftKey ? stepForward() : stepBack() :
    mod && k === 'y' ? stepForward :
    mod && k === 'a' ? () => select(notes.keys()) :
    mod && k === 'c' ? () => copy(ids) :
    mod && k === 'x' ? () => { copy(ids); remove(ids); } :
    mod && k === 'v' ? paste :
    mod ? null :
    k.startsWith('arrow') ? () => arrow(e, k, ids) :
    k === 'enter' ? enter :
    k === 'n' ? () => neighbour(1) : k === 'p' ? () => neighbour(-1) :
    k === 'v' ? () => setTool('select') : k === 'd' ? () => setTool('draw') :
    k === 'l' ? toggleLoop : k === 't' ? toggleTable :
    k === 'g' ? toggleScore : k === 'b' ? flipPair : k === 'r' ? reperform :
    k === '+' || k === '=' ? () => zoom(1.3) : k === '-' ? () => zoom(1 / 1.3) : k === 'f' ? () => fit(true) :
    k === '?' ? () => $('.help').click() :
    k === 'home' ? () => { seek(0); scrollTo(0); } : k === 'end' ? () => scrollTo(endMs()) : null;
  if (act && (doc.id || (mod && /^[zy]$/.test(k)))) { e.preventDefault(); e.stopPropagation(); act(); }
});
function pageKey(e) {       // Space and Escape work wherever the focus is, except where they mean something else
  if (!element.isConnected) return document.removeEventListener('keydown', pageKey);
  const typing = e.target.closest && e.target.closest('input:not([type=range]), textarea, select, [contenteditable], [role=listbox], [role=dialog]');
  if (typing || e.defaultPrevented) return;
  if ((e.ctrlKey || e.metaKey) && /^[zy]$/i.test(e.key)) { e.preventDefault(); return e.shiftKey || e.key.toLowerCase() === 'y' ? stepForward() : stepBack(); }
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (e.key === ' ' && !(e.target.closest && e.target.closest('button, a, summary'))) { e.preventDefault(); playPause(); }
  else if (e.key === 'Escape') { if (!$('.ask').hidden) answered(); else if (draft && !draft.running) leaveDraft(); else if (e.target === cv) escape(); else stop(); }
}
document.addEventListener('keydown', pageKey);

// ---- toolbar ----
const onClick = (selector, fn) => { $(selector).onclick = fn; };
onClick('.play', playPause); onClick('.stop', stop); onClick('.undo', stepBack); onClick('.redo', stepForward);
onClick('.in', () => zoom(1.3)); onClick('.out', () => zoom(1 / 1.3)); onClick('.fit', () => fit(true));
onClick('.ask .no', answered);
onClick('.cancel', () => { $('.busy .what').textContent = 'Cancelling…'; trigger('cancel', {}); });
onClick('.ghost', toggleScore); onClick('.loop', toggleLoop); onClick('.notes', toggleTable); onClick('.again', reperform);
onClick('.help', () => { const box = $('.keys'); box.hidden = !box.hidden; $('.help').setAttribute('aria-expanded', !box.hidden); });
for (const b of element.querySelectorAll('.tool')) b.onclick = () => setTool(b.dataset.tool);
$('.snap select').onchange = e => { snapQuarter = +e.target.value; };
new ResizeObserver(() => { mapImage = null; paint(); }).observe(cv);
new MutationObserver(() => { readTheme(); paint(); }).observe(document.body, { attributes: true, attributeFilter: ['class'] });
readTheme(); showButtons();
watch('value', () => receive(props.value));   // only when Python sets it
receive(props.value);
