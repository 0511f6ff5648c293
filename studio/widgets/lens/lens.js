// The lens, part 3 of 3: one curve of the performance on the roll's time axis, and the choice between all of them.
// Given by Gradio: element, trigger, props, watch.
const $ = selector => element.querySelector(selector);
const cv = $('canvas'), ctx = cv.getContext('2d'), told = $('.told');
let data = { lenses: [] }, axis = null, chosen = 'tempo', raf = 0, bar = -1, ink = {};
const TOP = 7, FOOT = 7, NEAR = 24;      // pixels: room above and below the curve; how near a value is read off

const lens = () => data.lenses.find(l => l.name === chosen);
const X = quarter => axis.keyW + (between(quarter, axis.grid[0], axis.grid[1]) - axis.t0) * axis.pxPerMs;
const quarterAt = x => between((x - axis.keyW) / axis.pxPerMs + axis.t0, axis.grid[1], axis.grid[0]);
const scale = (l, v) => l.log ? Math.log10(Math.max(v, 1e-3)) : v;
const Y = (l, v) => TOP + (cv.clientHeight - TOP - FOOT) * (l.high - scale(l, v)) / (l.high - l.low);

function receive(value) {
  if (!value || !value.curves) return;
  data = JSON.parse(value.curves);
  describe(); paint();
}
function readTheme() {
  const style = getComputedStyle(element), css = (name, other) => style.getPropertyValue(name).trim() || other;
  ink = {
    back: css('--background-fill-primary', '#fff'), line: css('--border-color-primary', '#ddd'), faint: css('--body-text-color-subdued', '#777'),
    text: css('--body-text-color', '#222'), head: css('--playhead', '#e11d48'), pianist: css('--curve-now', '#e8590c'), notes: css('--curve-now', '#e8590c'),
    'upper staff': css('--curve-now', '#e8590c'), 'lower staff': css('--curve-lower', '#1c7ed6'), human: css('--curve-human', '#868e96'), before: css('--curve-human', '#868e96'), after: css('--curve-human', '#868e96'),
  };
}
function describe() {                    // legend, and the same for a screen reader
  const l = lens() || (chosen === 'path' ? data.lenses.find(one => one.name === 'tempo') : null), names = new Map();
  if (l) for (const line of l.lines) names.set(line.who, line);
  $('.legend').replaceChildren(...[...names].map(([who, line]) => {
    const made = document.createElement('span');
    made.textContent = who; made.className = line.dots ? 'dots' : ''; made.style.setProperty('--swatch', colourOf(line)); made.title = who;
    return made;
  }));
  cv.dataset.lens = data.lenses.length ? chosen : ''; cv.dataset.lines = l ? l.lines.length : 0;
}
function paint() { if (!raf) raf = requestAnimationFrame(draw); }
function draw() {
  raf = 0;
  const dpr = devicePixelRatio || 1, w = cv.clientWidth, h = cv.clientHeight, l = lens();
  if (!w || !h || !element.isConnected) return;
  if (cv.width !== Math.round(w * dpr) || cv.height !== Math.round(h * dpr)) { cv.width = Math.round(w * dpr); cv.height = Math.round(h * dpr); }
  ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
  ctx.fillStyle = ink.back; ctx.fillRect(0, 0, w, h);
  cv.dataset.drawn = '';
  if (!data.lenses.length || !axis || axis.doc !== data.doc)
    return say(document.body.dataset.piece === 'none' ? 'No piece is open' : axis && !axis.doc && data.doc ? 'Open the take to see its curves' : 'Drawing the curves…', w, h);
  ctx.save(); ctx.beginPath(); ctx.rect(axis.keyW, 0, w - axis.keyW, h); ctx.clip();
  const own = chosen === 'path' ? drawPath(w, h) : null;
  if (chosen === 'path') { ctx.restore(); return own && labels(ticksOf(own.y0, own.y1).map(v => [own.py(v), v]), h); }
  if (chosen === 'spectrum') drawSpectrum(w, h);
  drawBars(w, h);
  const points = l ? drawCurves(l, w) : +cv.dataset.drawn;
  const head = axis.keyW + (axis.head - axis.t0) * axis.pxPerMs;
  ctx.fillStyle = ink.head; ctx.fillRect(head - .75, 0, 1.5, h);
  if (bar >= 0 && document.activeElement === cv) { ctx.strokeStyle = ink.text; ctx.setLineDash([3, 3]); ctx.strokeRect(X(axis.bars[bar][0]), 1, Math.max(3, (bar + 1 < axis.bars.length ? X(axis.bars[bar + 1][0]) : w) - X(axis.bars[bar][0])), h - 2); ctx.setLineDash([]); }
  ctx.restore();
  labels(l ? l.ticks.map(([value, text]) => [Y(l, value), text]) : HZ.map(([hz, text]) => [h * shareOfHz(hz), text]), h);
  cv.dataset.drawn = points; cv.dataset.head = Math.round(head);
}
function drawCurves(l, w) {
  for (const [value] of l.ticks) { ctx.fillStyle = ink.line; ctx.fillRect(axis.keyW, Math.round(Y(l, value)), w, value === l.zero ? 2 : 1); }
  let points = 0;
  for (const line of l.lines) points += line.dots ? drawDots(l, line, w) : drawLine(l, line, w);
  return points;
}
function say(text, w, h) {
  ctx.font = '13px system-ui, sans-serif'; ctx.textAlign = 'center'; ctx.textBaseline = 'middle'; ctx.fillStyle = ink.faint;
  ctx.fillText(text, w / 2, h / 2);
}
function labels(list, h) {               // of the vertical axis: [[y, text], ...]
  ctx.font = '10px system-ui, sans-serif'; ctx.textAlign = 'right'; ctx.textBaseline = 'middle'; ctx.fillStyle = ink.faint;
  let last = -99;
  for (const [y, text] of list) if (y > 4 && y < h - 4 && Math.abs(y - last) > 11) { ctx.fillText(text, axis.keyW - 5, y); last = y; }
}
function drawBars(w, h) {
  const { bars } = axis;
  if (bars.length > 1 && (X(bars[bars.length - 1][0]) - X(bars[0][0])) / bars.length < 5) return;
  ctx.fillStyle = ink.line;
  for (const [quarter] of bars) { const x = X(quarter); if (x >= axis.keyW && x <= w) ctx.fillRect(x, 0, 1, h); }
}
const colourOf = line => line.colour || ink[line.who] || ink.pianist;
const DASHES = { dash: [7, 4], dot: [2, 3], dashdot: [7, 3, 2, 3], longdash: [11, 4], longdashdot: [11, 3, 2, 3] };
const dashOf = line => DASHES[line.dash] || (/px/.test(line.dash || '') ? line.dash.split(' ').map(parseFloat) : []);
function drawLine(l, line, w) {
  ctx.strokeStyle = colourOf(line); ctx.lineWidth = line.who === 'human' || 'dash' in line ? 1.5 : 2; ctx.lineJoin = 'round'; ctx.setLineDash(dashOf(line)); ctx.beginPath();
  let begun = false, points = 0;
  for (let k = 0; k < line.q.length; k++) {
    const x = X(line.q[k]);
    if (k + 1 < line.q.length && X(line.q[k + 1]) < axis.keyW) continue;
    if (begun && line.step) ctx.lineTo(x, Y(l, line.y[k - 1]));
    if (begun) ctx.lineTo(x, Y(l, line.y[k])); else ctx.moveTo(x, Y(l, line.y[k]));
    begun = true; points += 1;
    if (x > w) break;
  }
  if (begun && line.step) ctx.lineTo(w, Y(l, line.y[line.q.findLastIndex(q => X(q) <= w)]));
  ctx.stroke(); ctx.setLineDash([]);
  return points;
}
function drawDots(l, line, w) {
  let points = 0;
  ctx.fillStyle = ink[line.who] || ink.pianist; ctx.globalAlpha = line.who === 'human' ? .4 : .75;
  for (let k = 0; k < line.q.length; k++) {
    const x = X(line.q[k]);
    if (x < axis.keyW - 3 || x > w + 3) continue;
    ctx.beginPath(); ctx.arc(x, Y(l, line.y[k]), line.who === 'human' ? 1.8 : 2.2, 0, 7); ctx.fill(); points += 1;
  }
  ctx.globalAlpha = 1;
  return points;
}

// ---- reading values off ----
const barOf = quarter => barIndex(quarter, axis.bars);
function valueAt(quarter, span) {        // the mean of each line near a place
  const l = lens();
  if (!l) return '';
  return l.lines.map(line => {
    if (line.step) { const k = line.q.findLastIndex(q => q <= quarter); return k < 0 ? '' : `${line.who} ${Math.round(line.y[k] / 1.27)} ${l.unit}`; }
    let sum = 0, n = 0;
    for (let k = 0; k < line.q.length; k++) if (Math.abs(line.q[k] - quarter) <= span) { sum += line.y[k]; n += 1; }
    return n ? `${line.who} ${(sum / n).toFixed(l.digits)} ${l.unit}` : '';
  }).filter(Boolean).join(', ');
}
function readOff(x, y) {
  const here = axis && data.lenses.length && axis.bars.length && x >= axis.keyW, show = text => { $('.readout').textContent = text; };
  if (!here) return show('');
  if (chosen === 'path') {
    const [q, tempo, loud] = pathAt(x, y) || [];
    return show(q === undefined ? '' : `bar ${axis.bars[barOf(q)][1]}: ${tempo.toFixed(0)} beats/min, velocity ${loud.toFixed(0)}`);
  }
  if (chosen === 'spectrum') return show(`bar ${axis.bars[barOf(quarterAt(x))][1]}: ${hzAt(y).toFixed(0)} Hz`);
  const quarter = quarterAt(x), span = Math.max(.3, Math.abs(quarterAt(x + NEAR) - quarter));
  show(`bar ${axis.bars[barOf(quarter)][1]}: ${valueAt(quarter, span) || 'no note'}`);
}
function toBar(k) {
  if (!axis || !data.lenses.length || !axis.bars.length) return;
  bar = Math.min(axis.bars.length - 1, Math.max(0, k));
  const from = axis.bars[bar][0], to = bar + 1 < axis.bars.length ? axis.bars[bar + 1][0] : from + 4;
  told.textContent = lens() ? `Bar ${axis.bars[bar][1]}: ${valueAt((from + to) / 2, (to - from) / 2) || 'no note'}` : `Bar ${axis.bars[bar][1]}`;
  const x = X(from);
  if (x < axis.keyW || x > cv.clientWidth - 40) tell('wheel', { x: axis.keyW, deltaX: 1.5 * (x - axis.keyW - 60), deltaY: 0, zoom: false, pitch: false });
  paint();
}
const tell = (name, detail) => document.dispatchEvent(new CustomEvent('etude:' + name, { detail }));
cv.addEventListener('pointermove', e => readOff(e.offsetX, e.offsetY));
cv.addEventListener('pointerleave', () => { $('.readout').textContent = ''; });
cv.addEventListener('click', e => {
  if (!axis || !axis.doc || e.offsetX <= axis.keyW) return;
  const near = chosen === 'path' ? pathAt(e.offsetX, e.offsetY) : [quarterAt(e.offsetX)];
  if (near) tell('seek', { doc: axis.doc, quarter: near[0] });
});
cv.addEventListener('wheel', e => {
  e.preventDefault();
  tell('wheel', { x: e.offsetX, deltaX: e.deltaX, deltaY: e.deltaY, zoom: e.ctrlKey || e.metaKey, pitch: false });
}, { passive: false });
cv.addEventListener('keydown', e => {
  const here = bar >= 0 ? bar : axis && axis.bars.length ? barOf(between(axis.head, axis.grid[1], axis.grid[0])) : 0;
  const act = { ArrowLeft: () => toBar(bar < 0 ? here : bar - 1), ArrowRight: () => toBar(bar < 0 ? here : bar + 1), Home: () => toBar(0), End: () => toBar(1e9),
    Enter: () => { if (axis && axis.bars[here]) tell('seek', { doc: axis.doc, quarter: axis.bars[here][0] }); } }[e.key];
  if (act && !e.ctrlKey && !e.altKey && !e.metaKey) { e.preventDefault(); act(); }
});
cv.addEventListener('blur', paint);

// ---- the choice ----
const chips = [...element.querySelectorAll('.chips button')];
function choose(button) {
  chosen = button.dataset.lens;
  for (const b of chips) { b.setAttribute('aria-checked', b === button); b.tabIndex = b === button ? 0 : -1; }
  $('.readout').textContent = '';
  describe(); paint();
}
for (const [k, button] of chips.entries()) {
  button.onclick = () => choose(button);
  button.onkeydown = e => {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[e.key];
    if (!step) return;
    e.preventDefault();
    const next = chips[(k + step + chips.length) % chips.length];
    choose(next); next.focus();
  };
}
function viewed({ detail }) {
  if (!element.isConnected) return document.removeEventListener('etude:view', viewed);
  axis = detail; paint();
}
document.addEventListener('etude:view', viewed);
new ResizeObserver(paint).observe(cv);
new MutationObserver(() => { readTheme(); describe(); paint(); }).observe(document.body, { attributes: true, attributeFilter: ['class', 'data-piece'] });
readTheme(); describe(); paint();
watch('value', () => receive(props.value));
receive(props.value);
tell('axis', {});
