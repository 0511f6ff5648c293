// The piano roll, part 1 of 10: what it holds, time, drawing. The parts are joined and run once per mount.
// Given by Gradio: element, trigger, props, watch. Events raised, in quotes so that Gradio makes a listener of
// each: 'edit', 'settle', 'reperform', 'waiting', 'collect', 'cancel', 'refused', 'history',
// 'chosen'; roll_versions.js and roll_takes.js name theirs.
const KEY_W = 46, RULER_H = 24, PEDAL_H = 18, MAP_H = 26, EDGE = 6, SNAP_FREE = 10;
let VEL_H = 60;            // pixels; less where the roll is low
const NAMES = ['C', 'C♯', 'D', 'E♭', 'E', 'F', 'F♯', 'G', 'A♭', 'A', 'B♭', 'B'];
const $ = selector => element.querySelector(selector);
const cv = $('canvas.roll'), ctx = cv.getContext('2d'), live = $('.live');
let [audio, spare] = element.querySelectorAll('audio');      // the sound that plays; the one that takes over from it

let doc = { id: 0, n: 0, past: null, future: null, family: 0, grid: [[0, 1], [0, 1000]] };   // what Python sent last, without the notes
let score = { id: 0, notes: [], bars: [], end: 0 };     // the page as written, in quarters
let notes = new Map();     // id -> {id, pitch, on, dur, vel}: milliseconds, MIDI numbers
let base = new Map();      // id -> the same as the pianist plays it
let pedal = [], ownPedal = false;   // [[from, to]] in milliseconds
let sel = new Set(), pedalSel = -1;
let rev = 0, take = 0, nextId = 1, raf = 0, drag = null, mapImage = null;
let arrived = false;       // whether there has been a piece, or the reason why there is none
let tool = 'select', showScore = true, snapQuarter = 0;
const cursor = { ms: 0, pitch: 60, shown: false };
const view = { t0: 0, pxPerMs: 0.06, lo: 36, hi: 84 };

// ---- time: quarters of the score against milliseconds of the performance ----
const msAt = (quarter, grid = doc.grid) => between(quarter, grid[0], grid[1]);
const quarterAt = (ms, grid = doc.grid) => between(ms, grid[1], grid[0]);
function snap(ms) {
  if (!snapQuarter) return Math.max(0, Math.round(ms / SNAP_FREE) * SNAP_FREE);
  return Math.max(0, Math.round(msAt(Math.round(quarterAt(ms) / snapQuarter) * snapQuarter)));
}
function endMs() {
  let end = Math.max(1000, draft ? draft.end : 0);
  if (draft && draft.alone) return end;
  for (const n of notes.values()) end = Math.max(end, n.on + n.dur);
  return end;
}

// ---- geometry ----
const width = () => cv.clientWidth;
const rollH = () => Math.max(40, cv.clientHeight - RULER_H - PEDAL_H - VEL_H - MAP_H);
const pedalY = () => RULER_H + rollH();
const velY = () => pedalY() + PEDAL_H;
const mapY = () => velY() + VEL_H;
const rowH = () => rollH() / (view.hi - view.lo + 1);
const X = ms => KEY_W + (ms - view.t0) * view.pxPerMs;
const T = x => (x - KEY_W) / view.pxPerMs + view.t0;
const Y = pitch => RULER_H + (view.hi - pitch) * rowH();
const P = y => view.hi - Math.floor((y - RULER_H) / rowH());
const clampPitch = p => Math.min(127, Math.max(0, p));
function scrollTo(t0) { view.t0 = Math.min(Math.max(0, t0), Math.max(0, endMs() + 1000 - (width() - KEY_W) / view.pxPerMs)); }
function zoom(factor, x = KEY_W + (width() - KEY_W) / 2) {
  const { t0, pxPerMs } = zoomed(view, factor, x, KEY_W, (width() - KEY_W) / (endMs() + 2000), 1.5);
  view.pxPerMs = pxPerMs; scrollTo(t0); paint();
}
function fit(whole) {
  let lo = 127, hi = 0;
  for (const n of notes.values()) { lo = Math.min(lo, n.pitch); hi = Math.max(hi, n.pitch); }
  if (lo > hi) [lo, hi] = [48, 72];
  const room = Math.max(0, 30 - (hi - lo));
  view.lo = Math.max(0, lo - 2 - (room >> 1)); view.hi = Math.min(127, hi + 2 + (room >> 1));
  const span = endMs() + 500, page = Math.max(100, width() - KEY_W - 8);
  view.pxPerMs = whole ? page / span : Math.max(page / span, Math.min(0.09, page / 12000 * 1.0));
  view.t0 = 0;
  paint();
}

// ---- colours, read from the theme whenever it changes ----
let ink = {};
function readTheme() {
  const style = getComputedStyle(element), css = (name, other) => style.getPropertyValue(name).trim() || other;
  const dark = document.body.classList.contains('dark') || document.documentElement.classList.contains('dark');
  ink = {
    dark, back: css('--background-fill-primary', '#fff'), panel: css('--background-fill-secondary', '#f6f6f6'),
    line: css('--border-color-primary', '#ddd'), text: css('--body-text-color', '#333'),
    faint: css('--body-text-color-subdued', '#888'), accent: css('--color-accent', '#2563eb'),
    row: dark ? 'rgba(255,255,255,.035)' : 'rgba(15,23,42,.035)', beat: dark ? 'rgba(255,255,255,.06)' : 'rgba(15,23,42,.07)',
    bar: dark ? 'rgba(255,255,255,.2)' : 'rgba(15,23,42,.24)', ghost: dark ? 'rgba(255,255,255,.34)' : 'rgba(15,23,42,.36)',
    pick: dark ? '#fff' : '#0f172a', glow: dark ? '#fff7e6' : '#ffe9a8', key: '#eaa42c', head: css('--playhead', '#e11d48'),
  };
  // soft is cool and pale, loud is warm and strong
  ink.velocity = Array.from({ length: 128 }, (_, v) => {
    const t = Math.min(1, Math.max(0, (v - 20) / 85));
    const hue = (225 + t * 160) % 360;            // blue, violet, red, orange
    return `hsl(${hue.toFixed(0)} ${(55 + 35 * t).toFixed(0)}% ${(dark ? 64 - 4 * t : 60 - 8 * t).toFixed(0)}%)`;
  });
  mapImage = null;
}

// ---- drawing ----
function paint() { if (!raf) raf = requestAnimationFrame(draw); }
function draw() {
  raf = 0;
  const dpr = devicePixelRatio || 1, w = cv.clientWidth, h = cv.clientHeight;
  if (!w || !h) return;
  if (cv.width !== Math.round(w * dpr) || cv.height !== Math.round(h * dpr)) {
    cv.width = Math.round(w * dpr); cv.height = Math.round(h * dpr); mapImage = null;
  }
  VEL_H = h < 240 ? 0 : h < 340 ? 34 : 60;
  ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
  ctx.fillStyle = ink.back; ctx.fillRect(0, 0, w, h);
  ctx.save(); ctx.beginPath(); ctx.rect(KEY_W, 0, w - KEY_W, mapY()); ctx.clip();
  const alone = draft && draft.alone;
  if (glide && (drag || performance.now() - glide.start > GLIDE_MS)) glide = null;
  findSounding();
  drawRows(w); if (!alone) { drawBars(w); drawLoop(w); }
  ctx.save(); ctx.beginPath(); ctx.rect(KEY_W, RULER_H, w - KEY_W, rollH()); ctx.clip();
  if (draft) ctx.globalAlpha = .3;
  if (showScore && !draft) drawScore(w);
  if (!alone) drawNotes(w);
  ctx.globalAlpha = 1;
  if (draft) drawDraft(w); else drawCursor();
  ctx.restore();
  if (!alone) { drawPedal(w); drawVelocity(w); }
  if (drag && drag.kind === 'box') {
    ctx.fillStyle = 'rgba(99,102,241,.14)'; ctx.strokeStyle = ink.accent; ctx.lineWidth = 1;
    ctx.fillRect(drag.x0, drag.y0, drag.x - drag.x0, drag.y - drag.y0);
    ctx.strokeRect(drag.x0 + .5, drag.y0 + .5, drag.x - drag.x0, drag.y - drag.y0);
  }
  const px = X(draftHead() >= 0 ? draftHead() : playheadMs());
  ctx.fillStyle = ink.head; ctx.fillRect(px - .75, 0, 1.5, mapY());
  ctx.beginPath(); ctx.moveTo(px - 5, 0); ctx.lineTo(px + 5, 0); ctx.lineTo(px, 7); ctx.fill();
  ctx.restore();
  drawKeys(); drawMap(w);
  if (!arrived) { ctx.font = '15px system-ui, sans-serif'; ctx.textAlign = 'center'; ctx.fillStyle = ink.faint; ctx.fillText('Loading the first piece…', (KEY_W + w) / 2, RULER_H + rollH() / 2); }
  // Lets an end-to-end test turn (ms, pitch) into a pixel without knowing the layout.
  cv.dataset.view = JSON.stringify({ ...view, keyW: KEY_W, rulerH: RULER_H, rowH: rowH(), pedalY: pedalY(), velY: velY(), velH: VEL_H });
  Object.assign(cv.dataset, { count: notes.size, selected: sel.size, rev, take, doc: doc.id, sound: soundTag, draft: draft ? draft.rows.length : 0, past: doc.past ?? '', future: doc.future ?? '', loop: loop ? loop.join(' ') : '', looping });
  showClock(); showEmpty(); tellAll();
  share('view', { doc: alone ? 0 : doc.id, t0: view.t0, pxPerMs: view.pxPerMs, keyW: KEY_W, head: playheadMs(), grid: doc.grid, bars: score.bars, sound: soundTag ? { url: audio.src, grid: soundGrid } : null });   // the lens draws on the same axis
  if (!audio.paused) { follow(px); paint(); } else if (glide) paint();
}
// ---- light: the notes, keys and pedal that sound now ----
let sounding = new Set(), keysDown = new Map(), pedalIsDown = false;      // ids; pitch -> velocity
function findSounding() {
  sounding = new Set(); keysDown = new Map();
  const head = draftHead(), ms = head >= 0 ? head : playheadMs();
  if (head >= 0) { for (const [take, on, dur, pitch] of draft.rows) if (!take && on <= ms && ms < on + dur) keysDown.set(pitch, 80); }
  if (head < 0 || !draft.alone) {
    if (head >= 0 || !audio.paused || (borrowed && borrowed.playing)) for (const n of notes.values()) if (n.on <= ms && ms < n.on + n.dur) { sounding.add(n.id); keysDown.set(n.pitch, n.vel); }
  }
  pedalIsDown = keysDown.size > 0 && !(draft && draft.alone) && pedal.some(([a, b]) => a <= ms && ms < b);
  cv.dataset.sounding = [...keysDown.keys()].sort((a, b) => a - b).join(' ');
}
function drawRows(w) {
  for (let p = view.lo; p <= view.hi; p++) {
    if ([1, 3, 6, 8, 10].includes(p % 12)) { ctx.fillStyle = ink.row; ctx.fillRect(KEY_W, Y(p), w, rowH()); }
    if (p % 12 === 0) { ctx.fillStyle = ink.beat; ctx.fillRect(KEY_W, Y(p) + rowH(), w, 1); }
  }
  ctx.fillStyle = ink.panel; ctx.fillRect(KEY_W, 0, w, RULER_H);
  ctx.fillRect(KEY_W, pedalY(), w, PEDAL_H); ctx.fillRect(KEY_W, velY(), w, VEL_H);
  ctx.fillStyle = ink.line;
  for (const y of [RULER_H, pedalY(), velY(), mapY()]) ctx.fillRect(0, y - .5, w, 1);
}
function drawBars(w) {
  const [quarters, ms] = doc.grid;
  if (!score.bars.length) return;
  const perBar = (ms[ms.length - 1] - ms[0]) / score.bars.length * view.pxPerMs;
  if (perBar / 4 > 10) {
    ctx.fillStyle = ink.beat;
    for (let k = 0; k < quarters.length; k++) { const x = X(ms[k]); if (x > KEY_W && x < w) ctx.fillRect(x, RULER_H, 1, mapY()); }
  }
  ctx.font = '11px system-ui, sans-serif'; ctx.textBaseline = 'middle'; ctx.textAlign = 'left';
  let free = -1;
  for (const [quarter, number] of score.bars) {
    const x = X(msAt(quarter));
    if (x < KEY_W - 30 || x > w) continue;
    if (perBar > 5) { ctx.fillStyle = ink.bar; ctx.fillRect(x, RULER_H, 1, mapY()); }
    if (x >= free) { ctx.fillStyle = ink.bar; ctx.fillRect(x, RULER_H - 8, 1, 8); ctx.fillStyle = ink.faint; ctx.fillText(number, x + 4, RULER_H / 2); free = x + 34; }
  }
}
function drawScore(w) {
  ctx.strokeStyle = ink.ghost; ctx.lineWidth = 1;
  const h = rowH(); ctx.beginPath();
  for (const [on, dur, pitch] of score.notes) {
    const a = X(msAt(on)), b = X(msAt(on + Math.max(dur, .08)));
    if (b >= KEY_W && a <= w) ctx.rect(Math.round(a) + .5, Math.round(Y(pitch)) + .5, Math.max(2, b - a - 1), Math.max(2, h - 1));
  }
  ctx.stroke();
}
const GLIDE_MS = 160;
let glide = null;      // {from: Map of id -> {on, dur, vel} as drawn before, start}: notes move to their new places
function gliding(n) {
  const was = glide.from.get(n.id), t = Math.min(1, (performance.now() - glide.start) / GLIDE_MS), k = t * (2 - t);
  if (!was || was.pitch !== n.pitch) return n;
  return { ...n, on: was.on + (n.on - was.on) * k, dur: was.dur + (n.dur - was.dur) * k, vel: Math.round(was.vel + (n.vel - was.vel) * k) };
}
function moved(n) {    // where a note is drawn while it is dragged
  if (glide && !drag) return gliding(n);
  if (!drag || !drag.ids || !drag.ids.has(n.id)) return n;
  if (drag.kind === 'move') return { ...n, on: Math.max(0, n.on + (drag.dt || 0)), pitch: clampPitch(n.pitch + (drag.dp || 0)) };
  if (drag.kind === 'size') return { ...n, dur: Math.max(10, n.dur + (drag.dt || 0)) };
  if (drag.kind === 'vel') return { ...n, vel: Math.min(127, Math.max(1, n.vel + (drag.dv || 0))) };
  return n;
}
function drawNotes(w) {
  const h = rowH(), pad = h > 6 ? 1 : 0;
  for (const original of notes.values()) {
    const n = moved(original), x = X(n.on), nw = Math.max(2, n.dur * view.pxPerMs);
    if (x + nw < KEY_W || x > w) continue;
    const y = Y(n.pitch) + pad, nh = Math.max(2, h - 2 * pad);
    ctx.fillStyle = ink.velocity[n.vel];
    if (nw > 5 && nh > 5) { ctx.beginPath(); ctx.roundRect(x, y, nw - 1, nh, 2.5); ctx.fill(); } else ctx.fillRect(x, y, nw, nh);
    if (sounding.has(n.id)) {
      ctx.save(); ctx.shadowColor = ink.velocity[n.vel]; ctx.shadowBlur = 10; ctx.fillStyle = ink.glow;
      ctx.beginPath(); ctx.roundRect(x - 1, y - 1, Math.max(3, nw + 1), nh + 2, 3); ctx.fill(); ctx.restore();
    }
    if (sel.has(n.id)) { ctx.strokeStyle = ink.pick; ctx.lineWidth = 2; ctx.strokeRect(x, y, Math.max(2, nw - 1), nh); }
    else if (isEdited(n) && nw > 4) { ctx.fillStyle = ink.pick; ctx.fillRect(x, y, 2, nh); }
  }
  if (drag && drag.kind === 'draw') {
    ctx.fillStyle = ink.accent; ctx.globalAlpha = .6;
    ctx.fillRect(X(drag.on), Y(drag.pitch), Math.max(3, X(snap(T(drag.x))) - X(drag.on)), h); ctx.globalAlpha = 1;
  }
}
function isEdited(n) {
  const b = base.get(n.id);
  return !b || b.pitch !== n.pitch || b.on !== n.on || b.dur !== n.dur || b.vel !== n.vel;
}
function drawCursor() {
  if (!cursor.shown || document.activeElement !== cv) return;
  ctx.strokeStyle = ink.accent; ctx.lineWidth = 2; ctx.setLineDash([3, 2]);
  ctx.strokeRect(X(cursor.ms), Y(cursor.pitch), Math.max(8, X(cursor.ms + 250) - X(cursor.ms)), rowH()); ctx.setLineDash([]);
}
function drawPedal(w) {
  const spans = drag && drag.spans ? drag.spans : pedal;
  spans.forEach(([a, b], i) => {
    const x = X(a), pw = Math.max(2, X(b) - x);
    if (x + pw < KEY_W || x > w) return;
    const down = pedalIsDown && a <= playheadMs() && playheadMs() < b;
    ctx.fillStyle = i === pedalSel ? ink.pick : ink.dark ? '#2dd4bf' : '#0d9488'; ctx.globalAlpha = down || ownPedal ? 1 : .6;
    if (down) { ctx.shadowColor = ctx.fillStyle; ctx.shadowBlur = 9; }
    ctx.beginPath(); ctx.roundRect(x, pedalY() + 5, Math.max(1, pw - 1), PEDAL_H - 10, 3); ctx.fill(); ctx.globalAlpha = 1; ctx.shadowBlur = 0;
  });
}
function drawVelocity(w) {
  if (!VEL_H) return;
  const floor = velY() + VEL_H - 3, full = VEL_H - 10;
  for (const original of notes.values()) {
    const n = moved(original), x = X(n.on);
    if (x < KEY_W - 4 || x > w) continue;
    const y = floor - full * n.vel / 127;
    ctx.fillStyle = sel.has(n.id) ? ink.pick : ink.velocity[n.vel];
    ctx.fillRect(x, y, 1.5, floor - y); ctx.beginPath(); ctx.arc(x + .75, y, 2.5, 0, 7); ctx.fill();
  }
}
function drawKeys() {
  ctx.fillStyle = ink.panel; ctx.fillRect(0, 0, KEY_W, mapY());
  ctx.font = '10px system-ui, sans-serif'; ctx.textBaseline = 'middle'; ctx.textAlign = 'right';
  ctx.save(); ctx.beginPath(); ctx.rect(0, RULER_H, KEY_W, rollH()); ctx.clip();
  ctx.fillStyle = ink.dark ? '#d4d4d8' : '#fff'; ctx.fillRect(0, RULER_H, KEY_W - 1, rollH());
  for (let p = view.lo; p <= view.hi; p++) {
    const black = [1, 3, 6, 8, 10].includes(p % 12);
    if (black) { ctx.fillStyle = ink.dark ? '#27272a' : '#3f3f46'; ctx.fillRect(0, Y(p), KEY_W * .6, rowH()); }
    else if (p % 12 === 0 || p % 12 === 5) { ctx.fillStyle = 'rgba(0,0,0,.22)'; ctx.fillRect(0, Y(p) + rowH() - .5, KEY_W - 1, 1); }
    if (keysDown.has(p)) { ctx.fillStyle = ink.key; ctx.globalAlpha = .55 + .45 * keysDown.get(p) / 127; ctx.fillRect(0, Y(p), (black ? .6 : 1) * KEY_W - 1, Math.max(2, rowH() - .5)); ctx.globalAlpha = 1; }
    if (p % 12 === 0) { ctx.fillStyle = '#52525b'; ctx.fillText('C' + (p / 12 - 1), KEY_W - 5, Y(p) + rowH() / 2); }
  }
  ctx.restore();
  ctx.fillStyle = ink.line; ctx.fillRect(KEY_W - 1, 0, 1, mapY());
  ctx.fillStyle = ink.faint; ctx.textAlign = 'center';
  ctx.fillText('bar', KEY_W / 2, RULER_H / 2); ctx.fillText('pedal', KEY_W / 2, pedalY() + PEDAL_H / 2);
  if (VEL_H) ctx.fillText('velocity', KEY_W / 2, velY() + VEL_H / 2);
}
function drawMap(w) {    // the whole piece, small; the window that is shown; drag it to scroll
  const y = mapY(), end = endMs() + 500, s = (w - KEY_W) / end, dpr = devicePixelRatio || 1;
  if (!mapImage) {
    mapImage = document.createElement('canvas'); mapImage.width = Math.max(1, (w - KEY_W) * dpr); mapImage.height = MAP_H * dpr;
    const m = mapImage.getContext('2d'); m.scale(dpr, dpr); m.globalAlpha = .75;
    const step = (MAP_H - 6) / Math.max(1, view.hi - view.lo);
    for (const n of notes.values()) { m.fillStyle = ink.velocity[n.vel]; m.fillRect(n.on * s, 3 + (view.hi - n.pitch) * step, Math.max(1, n.dur * s), 1.2); }
  }
  ctx.fillStyle = ink.panel; ctx.fillRect(0, y, w, MAP_H);
  if (draft && draft.alone) mapDraft(y, s); else ctx.drawImage(mapImage, KEY_W, y, w - KEY_W, MAP_H);
  const a = KEY_W + Math.max(0, view.t0) * s, b = Math.min(w, KEY_W + T(w) * s);
  ctx.fillStyle = ink.dark ? 'rgba(255,255,255,.12)' : 'rgba(15,23,42,.09)'; ctx.fillRect(a, y, b - a, MAP_H);
  ctx.strokeStyle = ink.accent; ctx.lineWidth = 1; ctx.strokeRect(a + .5, y + .5, Math.max(4, b - a - 1), MAP_H - 1);
  ctx.fillStyle = ink.head; ctx.fillRect(KEY_W + playheadMs() * s, y, 1.5, MAP_H);
}
function follow(px) { if (px > width() - 40 || px < KEY_W) scrollTo(playheadMs() - 0.1 * (width() - KEY_W) / view.pxPerMs); }
