// The excerpt of one's own recording: one window over its waveform, dragged, or by its edges made longer. Given by Gradio:
// element, trigger, props, watch. Event raised, in quotes so that Gradio makes a listener of it: 'pick'.
const box = element.querySelector('.excerpt'), cv = element.querySelector('canvas'), words = element.querySelector('.words');
const EDGE = 9, STEP = .5;                   // pixels; seconds of a key press
let peaks = [], total = 0, start = 0, length = 6, least = 3, most = 10, drag = null, raf = 0;
const X = sec => sec / total * cv.clientWidth, T = x => x / cv.clientWidth * total;

function receive(value) {
  if (!value) return;
  if (value.wave) {
    const made = JSON.parse(value.wave);
    ({ peaks, total, start, length, least, most } = made);
    box.hidden = !total;
  }
  paint();
}
function put(from, size) {
  length = Math.min(Math.max(least, size), most, total);
  start = Math.min(Math.max(0, from), total - length);
  paint();
}
function paint() { if (!raf) raf = requestAnimationFrame(draw); }
function draw() {
  raf = 0;
  const w = cv.clientWidth, h = cv.clientHeight, dpr = devicePixelRatio || 1;
  if (!w || !total) return;
  cv.width = w * dpr; cv.height = h * dpr;
  const pen = cv.getContext('2d'), css = name => getComputedStyle(element).getPropertyValue(name).trim();
  pen.scale(dpr, dpr);
  const a = X(start), b = X(start + length);
  pen.fillStyle = css('--color-accent'); pen.globalAlpha = .14; pen.fillRect(a, 0, b - a, h); pen.globalAlpha = 1;
  for (const [k, p] of peaks.entries()) {
    const x = k / peaks.length * w, size = Math.max(1, p * (h - 10));
    pen.fillStyle = x >= a && x <= b ? css('--color-accent') : css('--body-text-color-subdued');
    pen.fillRect(x, (h - size) / 2, Math.max(1, w / peaks.length - 1), size);
  }
  pen.fillStyle = css('--color-accent'); pen.fillRect(a, 0, 2, h); pen.fillRect(b - 2, 0, 2, h);
  const text = `${start.toFixed(1)} to ${(start + length).toFixed(1)} s of ${total.toFixed(1)} s`;
  words.textContent = `${text}. Drag the window, or its ends (${least} to ${most} s); it plays when you let go.`;
  for (const [name, v] of Object.entries({ valuenow: start.toFixed(1), valuemin: 0, valuemax: (total - length).toFixed(1), valuetext: text })) cv.setAttribute('aria-' + name, v);
  Object.assign(cv.dataset, { start: start.toFixed(2), seconds: length.toFixed(2) });
}
function part(x) {                           // of the window under the pointer
  const a = X(start), b = X(start + length);
  return Math.abs(x - a) <= EDGE ? 'from' : Math.abs(x - b) <= EDGE ? 'to' : x > a && x < b ? 'all' : '';
}
cv.addEventListener('pointerdown', e => {
  let what = part(e.offsetX);
  if (!what) { put(T(e.offsetX) - length / 2, length); what = 'all'; }
  drag = { what, x: e.offsetX, start, length };
  cv.setPointerCapture(e.pointerId);
});
cv.addEventListener('pointermove', e => {
  if (!drag) { cv.style.cursor = { from: 'ew-resize', to: 'ew-resize', all: 'grab' }[part(e.offsetX)] || 'pointer'; return; }
  const by = T(e.offsetX - drag.x);
  if (drag.what === 'all') put(drag.start + by, drag.length);
  else if (drag.what === 'to') put(drag.start, Math.min(drag.length + by, total - drag.start));
  else { const end = drag.start + drag.length, size = Math.min(Math.max(least, drag.length - by), most, end); put(end - size, size); }
});
const release = () => { if (drag) { drag = null; pick(); } };
cv.addEventListener('pointerup', release);
cv.addEventListener('pointercancel', release);
let soon = 0;
function pick() { trigger('pick', { start: +start.toFixed(2), seconds: +length.toFixed(2) }); }
cv.addEventListener('keydown', e => {
  const by = { ArrowLeft: -STEP, ArrowDown: -STEP, ArrowRight: STEP, ArrowUp: STEP }[e.key];
  if (!by) return;
  e.preventDefault();
  if (e.shiftKey) put(start, length + by); else put(start + by, length);
  clearTimeout(soon); soon = setTimeout(pick, 500);
});
new ResizeObserver(paint).observe(cv);
watch('value', () => receive(props.value));
receive(props.value);
