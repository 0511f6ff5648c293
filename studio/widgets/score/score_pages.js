// The engraved score, part 1 of 2: pages, asked for as they come into sight; the notes that sound.
// Given by Gradio: element, trigger, props, watch. Events raised: 'want' (a page), 'select'.
const WIDTHS = [360, 560, 800, 1100, 1400];     // engine.music.io.engrave.WIDTHS
const ASK_AGAIN = 500, PATIENCE = 15000;        // milliseconds: after "not ready yet", after no answer at all
const HANDS_OFF = 4000;                         // milliseconds that the pages stay where the visitor has scrolled them
const $ = selector => element.querySelector(selector);
const paper = $('.paper'), pages = $('.pages'), told = $('.told');

let here = { doc: 0, digest: '' };              // what is on the stand
let shown = { digest: '', width: 0, about: null, sheets: [] };   // what is drawn; a sheet: {div, svg, bars, notes}
let visible = false, asked = new Map(), timer = 0;               // asked: page -> when
let picked = new Set(), pickedBars = null, lit = new Set(), nowBar = -1, scrolledByHand = -Infinity;

const say = text => { told.textContent = text; };
const fitting = () => {
  const room = Math.max(paper.clientWidth, 1), off = w => Math.abs(Math.log(w / room));
  return WIDTHS.reduce((best, w) => off(w) < off(best) ? w : best);
};
const current = () => shown.digest === here.digest && shown.width === fitting();

// ---- what Python sends ----
function receive(value) {
  if (!value || (!value.digest && !value.doc)) return;
  if (!value.digest) {                                   // nothing is on the stand
    here = { doc: value.doc, digest: '' }; shown = { digest: '', width: 0, about: null, sheets: [] };
    return clear('The score appears here.');
  }
  const moved = value.doc !== here.doc;
  if (value.digest !== here.digest || moved) {
    if (value.svg || value.wait || value.refusal) return;          // the answer about a score that has gone
    here = { doc: value.doc, digest: value.digest };
    asked.clear();
    if (moved) { paper.scrollTop = 0; pick([], null, false); }
    if (shown.digest !== here.digest) pages.classList.add('old');
  }
  if (value.refusal) { clear(value.refusal); shown = { digest: here.digest, width: fitting(), about: null, sheets: [] }; }
  else if (value.wait) { asked.clear(); clearTimeout(timer); timer = setTimeout(ask, ASK_AGAIN); return; }
  else if (value.svg) place(value);
  ask();
}
function clear(sentence) {
  pages.replaceChildren(); pages.classList.remove('old'); paper.dataset.notes = 0;
  $('.empty').textContent = sentence; $('.empty').hidden = !sentence;
}
function place(value) {
  if (value.about && value.width === fitting()) {
    const about = JSON.parse(value.about), stay = shown.digest && shown.about ? paper.scrollTop / Math.max(1, pages.clientHeight) : 0;
    clear('');
    shown = { digest: value.digest, width: value.width, about, sheets: about.sizes.map(blank) };
    pages.style.maxWidth = `${Math.round(value.width * 1.3)}px`;
    paper.scrollTop = stay * pages.clientHeight;
    nowBar = -1;
    for (const sheet of shown.sheets) sight.observe(sheet.div);
  }
  if (value.digest !== shown.digest || value.width !== shown.width) return;
  asked.delete(value.page);
  const sheet = shown.sheets[value.page];
  if (!sheet || sheet.svg) return;
  sheet.div.innerHTML = value.svg;                     // rebuilt by engine.music.io.engrave.clean_svg
  sheet.svg = sheet.div.querySelector('svg');
  for (const g of sheet.svg.querySelectorAll('g.note[id^=note-]')) {
    const [, row, part] = g.id.split('-').map(Number);
    if (!sheet.notes.has(row)) sheet.notes.set(row, []);
    sheet.notes.get(row).push({ g, part: part || 0 });
  }
  for (const row of picked) mark(row, 'picked', true);
  showBars();
  paper.dataset.notes = new Set(shown.sheets.flatMap(s => [...s.notes.keys()])).size;     // for end-to-end tests, as the others
}
function blank([width, height]) {
  const div = document.createElement('div');
  div.className = 'page'; div.style.aspectRatio = `${width} / ${height}`;
  pages.append(div);
  return { div, svg: null, bars: null, notes: new Map(), near: false };
}

// ---- asking ----
function ask() {
  clearTimeout(timer); timer = 0;
  if (!visible || !here.digest || !element.isConnected) return;
  const wanted = current() ? shown.sheets.flatMap((s, k) => s.near && !s.svg ? [k] : []) : [0];
  const now = performance.now();
  for (const page of wanted) {
    if (now - (asked.get(page) ?? -PATIENCE) < PATIENCE) continue;
    asked.set(page, now);
    trigger('want', { doc: here.doc, digest: here.digest, page, width: fitting() });
  }
  if (wanted.length) timer = setTimeout(ask, PATIENCE + 100);      // should an answer be lost
}
const sight = new IntersectionObserver(entries => {
  for (const e of entries) {
    const sheet = shown.sheets.find(s => s.div === e.target);
    if (sheet) sheet.near = e.isIntersecting;
  }
  ask();
}, { root: paper, rootMargin: '900px 0px' });
new IntersectionObserver(entries => { visible = entries.some(e => e.isIntersecting); ask(); }).observe(paper);
new ResizeObserver(() => { if (visible && !current()) { asked.clear(); clearTimeout(timer); timer = setTimeout(ask, 250); } }).observe(paper);

// ---- bars on the page, in shares of its width and height; a bar that two lines share does not exist ----
function barsOf(sheet) {
  if (sheet.bars || !sheet.svg) return sheet.bars || [];
  const page = sheet.div.getBoundingClientRect();
  if (!page.width) return [];
  sheet.bars = [...sheet.svg.querySelectorAll('g.measure[id^=bar-]')].map(g => {
    const lines = [...g.querySelectorAll('g.staff > path')].map(p => p.getBoundingClientRect());
    const left = Math.min(...lines.map(r => r.left)), right = Math.max(...lines.map(r => r.right));
    const top = Math.min(...lines.map(r => r.top)), bottom = Math.max(...lines.map(r => r.bottom));
    return {
      bar: +g.id.slice(4), g, x: (left - page.left) / page.width, w: (right - left) / page.width,
      y: (top - page.top) / page.height, h: (bottom - top) / page.height,
    };
  });
  return sheet.bars;
}
function boxOf(bar, kind) {
  const sheet = shown.sheets[shown.about.bar_page[bar]], place = sheet && barsOf(sheet).find(b => b.bar === bar);
  if (!place) return null;
  const div = document.createElement('div'), pad = 0.15 * place.h;
  div.className = `box ${kind}`;
  Object.assign(div.style, {
    left: `${100 * place.x}%`, width: `${100 * place.w}%`, top: `${100 * (place.y - pad)}%`, height: `${100 * (place.h + 2 * pad)}%`,
  });
  sheet.div.append(div);
  return div;
}
function showBars() {
  for (const box of pages.querySelectorAll('.box')) box.remove();
  if (!shown.about || shown.digest !== here.digest) return;
  if (pickedBars) for (let k = pickedBars[0]; k <= pickedBars[1]; k++) boxOf(k, 'bar');
  if (nowBar >= 0) boxOf(nowBar, 'now');
}

// ---- what sounds ----
function mark(row, kind, on, quarter = Infinity) {
  const ties = shown.about && shown.about.ties[row];
  for (const sheet of shown.sheets) {
    for (const { g, part } of sheet.notes.get(row) || []) g.classList.toggle(kind, on && (!part || !ties || ties[part - 1] <= quarter + 1e-3));
  }
}
function barAt(quarter) {
  const lines = shown.about.barlines;
  let lo = 0, hi = lines.length - 2;
  while (lo < hi) { const mid = (lo + hi + 1) >> 1; if (lines[mid] <= quarter + 1e-6) lo = mid; else hi = mid - 1; }
  return lo;
}
const CLOCK_ERROR = 0.01;  // quarters: the roll's clock is in whole milliseconds
function tick({ detail }) {
  if (!element.isConnected) return document.removeEventListener('etude:clock', tick);
  if (!shown.about || detail.doc !== here.doc || shown.digest !== here.digest) return;
  const next = new Set(detail.sounding);
  for (const row of lit) if (!next.has(row)) mark(row, 'lit', false);
  for (const row of next) if (!lit.has(row) || shown.about.ties[row]) mark(row, 'lit', true, detail.quarter);
  lit = next;
  const bar = detail.playing || detail.quarter > shown.about.barlines[0] ? barAt(detail.quarter + CLOCK_ERROR) : -1;
  if (bar !== nowBar) {
    nowBar = bar;
    showBars();
    if (bar >= 0 && performance.now() - scrolledByHand > HANDS_OFF) reveal(bar);
  }
  paper.dataset.lit = lit.size; paper.dataset.bar = bar;
}
document.addEventListener('etude:clock', tick);
for (const by of ['wheel', 'touchmove', 'pointerdown']) paper.addEventListener(by, () => { scrolledByHand = performance.now(); }, { passive: true });

// Scroll the paper, never the window, so that a bar's line can be read and the next one too.
function reveal(bar) {
  const sheet = shown.sheets[shown.about.bar_page[bar]];
  if (!sheet || !visible) return;
  const place = barsOf(sheet).find(b => b.bar === bar);
  const high = sheet.div.clientHeight, top = sheet.div.offsetTop + (place ? place.y : 0) * high, bottom = top + (place ? place.h : 0) * high;
  if (top - 24 >= paper.scrollTop && bottom + 24 <= paper.scrollTop + paper.clientHeight) return;
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  paper.scrollTo({ top: Math.max(0, top - 48), behavior: calm ? 'auto' : 'smooth' });
}
