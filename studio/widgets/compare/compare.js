// Performances compared, part 3 of 3: what there is, what is heard and drawn, the needles. Given by Gradio: element,
// trigger, props, watch. Events raised, in quotes so that Gradio makes a listener of each: 'look', 'draw', 'hear', 'keep',
// 'drop', 'vote', 'leave'. The parts are joined and run once; part 1 is the player of studio/listen.
const WHO = 'compare', MOST_SAMPLES = 25 * 60 * RATE, TAIL_BEATS = 12;
let state = { doc: 0, entries: [], bars: [], tag: '', votes: 0, room: 8 };
let problem = false, working = 0, drawnTag = '', drawing = -Infinity, place = null;
const asked = new Map();          // sound -> when it was asked for
const refusedSounds = new Set();
const yardstick = () => state.entries.map(e => sounds.get(e.sound)).find(s => s && s.n) || [...sounds.values()].find(s => s.n);
const say = (text, bad = false) => { $('.status').textContent = text; $('.status').classList.toggle('bad', bad); problem = bad; };
const visible = () => element.isConnected && element.offsetParent !== null;

function receive(value) {
  if (!value || !value.news) return;
  const news = JSON.parse(value.news);
  if (value.file && value.file.url) takeAway(value.file);
  working = news.job ? news.job.id : news.state ? 0 : working;
  if (news.job) { say(`${news.job.text}…${news.job.share ? ` ${Math.round(100 * news.job.share)} %` : ''}`); setTimeout(() => trigger('look', { job: news.job.id }), 300); }
  if (news.state) receiveState(news.state);
  if ('study' in news) receiveStudy(news.study);
  if (news.result) showResult(news.result);
  if (news.refused) { say(news.refused, true); if (news.missing) { refusedSounds.add(news.missing); if (wanted === news.missing) wanted = ''; } }
  else if (news.said !== undefined) say(news.said);
  if (news.drawn) { drawing = -Infinity; drawnTag = news.drawn; setTimeout(needles, 300); }
  if (news.wait) setTimeout(() => want(news.wait, true), 300);
  if (value.audio && value.audio.url) receiveAudio(news, value.audio.url);
  draw(); show();
}
function receiveState(next) {
  const before = new Map(state.entries.map(e => [e.sound, e.key]));
  const wasHeard = before.get(heard);
  if (next.doc !== state.doc) showResult([]);      // another piece
  state = next;
  const ids = new Set(state.entries.map(e => e.sound));
  const now = state.entries.find(e => e.key === wasHeard) || state.entries[0];
  if (!study && !ids.has(heard)) { if (live) { hush(); release(); } heard = now ? now.sound : ''; wanted = ''; }
  for (const key of [...sounds.keys()]) if (!ids.has(key) && !key.startsWith('study')) sounds.delete(key);
  refusedSounds.clear();
  const more = before.size && state.entries.length > before.size && visible();
  buildEntries();
  if (more) $('.entries').scrollIntoView({ block: 'nearest', behavior: 'smooth' });
}
async function receiveAudio(news, url) {
  let samples;
  try { samples = await fetched(url); } catch { return say('The sound did not arrive; try again.', true); }
  asked.delete(news.sound);
  if (!state.entries.some(e => e.sound === news.sound) && !(study && news.sound.startsWith('study'))) return;
  const s = sound(news.sound, { grid: news.grid, from: news.start });
  append(s, 0, samples); s.over = true;
  forgetSome();
  if (wanted === news.sound) {
    wanted = '';
    if (study) hearIn(news.sound); else { listenTo(news.sound, true); fetchOthers(); }
  }
  show();
}
function choose(id) {             // what is heard goes on until the other is here
  if (live && !ready(id)) { wanted = id; want(id); return show(); }
  listenTo(id, true); fetchOthers();
}
function fetchOthers() { for (const e of state.entries) if (e.drawn && live) want(e.sound); }
function forgetSome() {           // long pieces: keep what was heard last
  let total = [...sounds.values()].reduce((sum, s) => sum + s.n, 0);
  for (const [key, s] of sounds) {
    if (total <= MOST_SAMPLES) return;
    if (key === heard || key === wanted || (live && live.key === key)) continue;
    total -= s.n; sounds.delete(key);
  }
}
function want(key, again = false) {
  if (ready(key) || refusedSounds.has(key) || (!again && performance.now() - (asked.get(key) ?? -1e9) < 4000)) return;
  asked.set(key, performance.now());
  trigger('hear', { sound: key });
}
function draw() {                 // ask for the curves when they would be others
  if (!visible() || study || !state.tag || state.tag === drawnTag || performance.now() - drawing < 8000) return;
  if (!state.entries.length) return;
  drawing = performance.now();
  trigger('draw', { tag: state.tag });
}

// ---- the page ----
const NS = 'http://www.w3.org/2000/svg';
function swatch(entry) {
  const svg = document.createElementNS(NS, 'svg'), line = document.createElementNS(NS, 'line');
  const dashes = { solid: '', dash: '7 4', dot: '2 3', dashdot: '7 3 2 3', longdash: '11 4', longdashdot: '11 3 2 3' };
  line.style.stroke = entry.colour;
  for (const [k, v] of Object.entries({ x1: 0, x2: 26, y1: 4, y2: 4, 'stroke-width': 3, 'stroke-dasharray': dashes[entry.dash] ?? entry.dash.replaceAll('px', '') })) line.setAttribute(k, v);
  svg.append(line); svg.setAttribute('aria-hidden', 'true'); svg.setAttribute('viewBox', '0 0 26 8');
  return svg;
}
let built = '';
function buildEntries() {
  const tag = JSON.stringify(state.entries);
  $('.empty').hidden = state.entries.length > 1;
  if (tag === built) return;
  built = tag;
  $('.entries').replaceChildren(...state.entries.map(entry => {
    const li = document.createElement('li'), box = document.createElement('input');
    box.type = 'checkbox'; box.checked = entry.drawn; box.title = 'Draw it'; box.setAttribute('aria-label', `Draw ${entry.name}`);
    box.onchange = () => trigger('keep', { key: entry.key, out: !box.checked });
    const hear = button(entry.name, `Hear ${entry.name}`, () => choose(entry.sound), { key: entry.key });
    hear.className = 'hear'; hear.setAttribute('role', 'radio');
    li.append(box, swatch(entry), hear);
    if (entry.found) li.append(Object.assign(document.createElement('span'), { className: 'hint found', textContent: `${entry.found} found`, title: `${entry.found} of the written notes were found in this performance` }));
    if (entry.pin) { const drop = button('✕', `Forget ${entry.name}`, () => trigger('drop', { key: entry.key }), {}); drop.className = 'drop'; li.append(drop); }
    return li;
  }));
}
function barAt(q) { let found = state.bars[0]; for (const bar of state.bars) if (bar[0] <= q + 1e-3) found = bar; return found ? found[1] : 0; }
function show() {
  const strip = $('.compare'), key = (state.entries.find(e => e.sound === heard) || {}).key || '';
  strip.querySelector('.head').hidden = !state.entries.length && !working && !problem;
  strip.querySelector('.entries').hidden = !state.entries.length;
  $('.halt').hidden = !working;
  for (const b of $('.entries').querySelectorAll('.hear')) {
    const own = state.entries.find(e => e.key === b.dataset.key);
    b.setAttribute('aria-checked', !study && !!own && own.sound === heard);
    b.classList.toggle('coming', !!own && own.sound === wanted);
    b.disabled = !!study;                        // blind is blind
  }
  for (const b of $('.entries').querySelectorAll('.drop, input')) b.disabled = !!study;
  $('.level').disabled = !!study; if (study) $('.level').checked = true;
  $('.play').disabled = !!study;
  $('.play').classList.toggle('playing', !!live);
  $('.play').classList.toggle('waiting', !!wanted);
  showStudy(); showPlace();
  Object.assign(strip.dataset, {
    entries: state.entries.length, heard: study ? '' : key, playing: !!live, drawn: drawnTag === state.tag && !!drawnTag, votes: state.votes,
    ready: state.entries.filter(e => ready(e.sound)).map(e => e.key).join(' '), study: study ? study.number : '',
  });
}
function showPlace() {
  const s = sounds.get(heard), q = live && s && s.grid ? quarterOf(s, position()) : quarter;
  $('.clock').textContent = state.bars.length ? `bar ${barAt(q)}` : '–';
  $('.compare').dataset.quarter = q.toFixed(3);
}

// ---- with the roll ----
function tellRoll() {
  const s = sounds.get(heard);
  if (!s || !s.grid || !state.doc || study) return;      // in a study its playhead would give the tempo away
  const q = live && live.key === heard ? quarterOf(s, position()) : quarter;
  document.dispatchEvent(new CustomEvent('etude:heard', { detail: { doc: state.doc, by: WHO, quarter: q, playing: !!live, preview: heard.startsWith('now') } }));
}
let lookAgain = 0, passage = null;      // quarters that the roll repeats

function lookSoon(wait) { clearTimeout(lookAgain); lookAgain = setTimeout(() => { if (visible()) trigger('look', {}); }, wait); }
on('sounds', ({ by }) => { if (by !== WHO) silence(); });
on('goto', ({ doc, to, quarter: q }) => { if (to === WHO && doc === state.doc) goTo(q); });
on('toggle', ({ to }) => { if (to === WHO && !study) toggle(); });
on('changed', () => lookSoon(900));
on('made', () => lookSoon(100));                // a render, or the beginning of one
on('loop', ({ doc, span }) => { passage = doc === state.doc ? span : null; if (!study) looped = passageOf(passage); });
on('clock', ({ doc, quarter: q, playing }) => {
  if (doc !== state.doc) return lookSoon(900);
  if (!live && !study && playing) quarter = q;              // switching goes on where the roll is heard
  if (place !== null && q !== place) moved = true;
  place = q; needles();
});
$('.play').onclick = () => { toggle(); fetchOthers(); };
document.addEventListener('pointerdown', e => { if (element.isConnected && element.contains(e.target)) wake(); });
new IntersectionObserver(entries => { if (entries.some(e => e.isIntersecting)) lookSoon(50); }).observe(element);

// ---- where we are, in the pictures: a line in the curves, the head and tail of each path ----
function plotOf(id) { const gd = document.querySelector(`#${id} .js-plotly-plot`); return gd && gd._fullLayout && gd._fullData ? gd : null; }
function sheetOver(gd) {
  let sheet = gd.querySelector(':scope > canvas.needle');
  if (!sheet) {
    sheet = document.createElement('canvas'); sheet.className = 'needle'; sheet.setAttribute('aria-hidden', 'true');
    Object.assign(sheet.style, { position: 'absolute', left: 0, top: 0, pointerEvents: 'none' });
    gd.style.position = 'relative'; gd.append(sheet);
  }
  const dpr = devicePixelRatio || 1, w = gd.clientWidth, h = gd.clientHeight;
  if (sheet.width !== Math.round(w * dpr) || sheet.height !== Math.round(h * dpr)) { sheet.width = w * dpr; sheet.height = h * dpr; Object.assign(sheet.style, { width: `${w}px`, height: `${h}px` }); }
  const pen = sheet.getContext('2d');
  pen.setTransform(dpr, 0, 0, dpr, 0, 0); pen.clearRect(0, 0, w, h);
  return pen;
}
let moved = false;                // whether the paths show where the music is, or where their slider is
function needles() {
  if (place === null || !visible()) return;
  const worm = plotOf('compare-worm');
  if (worm) drawWorm(worm);
}
function drawWorm(gd) {
  const pen = sheetOver(gd), { xaxis, yaxis } = gd._fullLayout;
  if (!gd.dataset.slides) { gd.dataset.slides = 'yes'; gd.addEventListener('pointerdown', e => { if (e.target.closest('.slider-group')) { moved = false; needles(); } }, true); }
  for (const points of gd.querySelectorAll('.points')) points.style.visibility = moved ? 'hidden' : '';
  if (!moved) return;
  const px = (x, y) => [xaxis.l2p(x) + xaxis._offset, yaxis.l2p(y) + yaxis._offset];
  for (const trace of gd._fullData) {
    const at = trace.customdata;
    if (!at || at.length < 2 || trace.visible !== true) continue;
    let k = 0; while (k < at.length - 2 && at[k + 1] <= place) k++;
    const f = Math.min(1, Math.max(0, (place - at[k]) / (at[k + 1] - at[k])));
    const points = []; for (let i = Math.max(0, k - TAIL_BEATS + 1); i <= k; i++) points.push([trace.x[i], trace.y[i]]);
    points.push([trace.x[k] + f * (trace.x[k + 1] - trace.x[k]), trace.y[k] + f * (trace.y[k + 1] - trace.y[k])]);
    const path = points.filter(p => p.every(Number.isFinite)).map(p => px(...p));
    pen.strokeStyle = pen.fillStyle = trace.line.color; pen.lineCap = 'round';
    for (let i = 1; i < path.length; i++) { pen.globalAlpha = i / path.length; pen.lineWidth = 1 + 6 * i / path.length; pen.beginPath(); pen.moveTo(...path[i - 1]); pen.lineTo(...path[i]); pen.stroke(); }
    pen.globalAlpha = 1;
    if (path.length) { pen.beginPath(); pen.arc(...path[path.length - 1], 7, 0, 7); pen.fill(); }
  }
}
watch('value', () => receive(props.value));
receive(props.value);
lookSoon(50);
