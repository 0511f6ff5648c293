// A player of sounds as they arrive, without a seam, another taking over at the same musical moment. Part of the player
// of renders (studio/widgets/listen) and of compared performances (studio/widgets/compare), which give it: WHO, yardstick() (the sound
// whose loudness the others are given), want(key), show(), showPlace() (where the music is), tellRoll().
const $ = selector => element.querySelector(selector);
const RATE = 48000, AHEAD_SEC = 3, PIECE_SEC = 1.5, FADE_SEC = 0.015, REFILL_SEC = 0.8, FRAME_MS = 30;
const sounds = new Map();   // key -> {key, data, n, total, over, from, grid}: samples; ms of the first; quarters and ms
let context = null, live = null;   // live: {key, gain, nodes, next, end, anchor: [seconds, sample], starved}
let heard = '', wanted = '';       // what is chosen; what shall play as soon as it is here
let quarter = 0;                   // where the music stands in the score while nothing plays
let looped = null;                 // (sound) -> [from, to] samples, while a passage is repeated

function between(x, xs, ys) {
  let lo = 0, hi = xs.length - 2;
  while (lo < hi) { const mid = (lo + hi + 1) >> 1; if (xs[mid] <= x) lo = mid; else hi = mid - 1; }
  return ys[lo] + (x - xs[lo]) * (ys[lo + 1] - ys[lo]) / (xs[lo + 1] - xs[lo]);
}
const sampleAt = (s, q) => (between(q, s.grid[0], s.grid[1]) - s.from) * RATE / 1000;
const quarterOf = (s, sample) => between(s.from + sample * 1000 / RATE, s.grid[1], s.grid[0]);

function sound(key, about) {
  if (!sounds.has(key)) sounds.set(key, { key, data: new Float32Array(RATE * 30), right: null, n: 0, total: 0, over: false, from: 0, grid: null, picture: null, ...about });
  return sounds.get(key);
}
function append(s, first, channels) {      // [left] or [left, right]; `data` is the left one or the only one
  if (first !== s.n) return;               // an answer that came twice
  const [left, right] = channels, length = left.length;
  if (right && !s.right) { s.right = new Float32Array(s.data.length); s.right.set(s.data.subarray(0, s.n)); }
  if (s.n + length > s.data.length) {
    const size = Math.max(s.total, 1.5 * s.data.length, s.n + length) | 0;
    const grow = old => { const grown = new Float32Array(size); grown.set(old.subarray(0, s.n)); return grown; };
    s.data = grow(s.data); if (s.right) s.right = grow(s.right);
  }
  s.data.set(left, s.n); if (s.right) s.right.set(right || left, s.n);
  s.n += length; s.total = Math.max(s.total, s.n);
}
async function fetched(url) {              // the channels of a sound file, one or two
  const bytes = await (await fetch(url)).arrayBuffer();
  const sound = await new OfflineAudioContext(2, 1, RATE).decodeAudioData(bytes);
  return Array.from({ length: Math.min(2, sound.numberOfChannels) }, (_, i) => sound.getChannelData(i));
}

// ---- loudness: two sounds are compared over the passage that both have ----
function power(s, a, b) {
  let sum = 0, count = 0;
  for (let i = Math.max(0, a | 0); i < Math.min(s.n, b); i += 5) {
    sum += s.right ? (s.data[i] * s.data[i] + s.right[i] * s.right[i]) / 2 : s.data[i] * s.data[i]; count++;
  }
  return count ? Math.sqrt(sum / count) : 0;
}
function levelOf(s) {
  const norm = yardstick();
  if (!norm || !norm.n || s === norm || !$('.level').checked) return 1;
  const span = s.grid && norm.grid ? [sampleAt(s, quarterOf(norm, 0)), sampleAt(s, quarterOf(norm, norm.n))] : [0, s.n];
  const theirs = power(s, ...span), ours = power(norm, 0, norm.n);
  if (!theirs || !ours) return 1;
  let peak = 0;
  for (let i = 0; i < s.n; i += 3) peak = Math.max(peak, Math.abs(s.data[i]), s.right ? Math.abs(s.right[i]) : 0);
  return Math.min(ours / theirs, 1 / Math.max(peak, 0.01), 8);
}

// ---- playing ----
function position() {       // sample of the live sound that is heard now
  if (!live) return 0;
  const [at, sample] = live.anchor;
  return Math.min(live.next, Math.max(sample, sample + (context.currentTime - at) * RATE));
}
function wake() {
  context = context || new AudioContext({ sampleRate: RATE });
  if (context.state === 'suspended') context.resume();
}
function begin(key, sample) {
  const s = sounds.get(key);
  wake();
  hush();
  sample = Math.round(Math.min(Math.max(0, sample), Math.max(0, s.n - 1)));
  const at = context.currentTime + 0.02, gain = context.createGain();
  gain.gain.setValueAtTime(0, at); gain.gain.linearRampToValueAtTime(levelOf(s), at + FADE_SEC);
  gain.connect(context.destination);
  live = { key, gain, nodes: [], next: sample, end: at, anchor: [at, sample], starved: false };
  document.dispatchEvent(new CustomEvent('etude:sounds', { detail: { by: key === 'tried' ? key : WHO } }));
  pump(); tick(); show();
}
function hush() {
  if (!live) return;
  const { gain, nodes, key } = live, now = context.currentTime, s = sounds.get(key);
  if (s && s.grid) quarter = quarterOf(s, position());
  live = null;
  gain.gain.cancelScheduledValues(now); gain.gain.setTargetAtTime(0, now, FADE_SEC / 3);
  for (const node of nodes) try { node.stop(now + 2 * FADE_SEC); } catch { /* it has ended */ }
  setTimeout(() => gain.disconnect(), 200);
}
function pump() {           // hand the next seconds to the sound card
  if (!live) return;
  const s = sounds.get(live.key), now = context.currentTime;
  if (!s) return hush();
  if (live.starved) {
    if (s.n - live.next < REFILL_SEC * RATE && !s.over) return;
    live.starved = false; live.end = now + 0.03; live.anchor = [live.end, live.next];
  }
  while (live.next < s.n && live.end - now < AHEAD_SEC) {
    const size = Math.min(s.n - live.next, PIECE_SEC * RATE | 0);
    if (size < RATE / 4 && !s.over && live.end - now > 0.3) break;      // wait for a larger piece
    const buffer = context.createBuffer(s.right ? 2 : 1, size, RATE), node = context.createBufferSource();
    buffer.copyToChannel(s.data.subarray(live.next, live.next + size), 0);
    if (s.right) buffer.copyToChannel(s.right.subarray(live.next, live.next + size), 1);
    node.buffer = buffer; node.connect(live.gain); node.start(Math.max(live.end, now));
    live.nodes.push(node); live.next += size; live.end += size / RATE;
    if (live.nodes.length > 8) live.nodes.shift();
  }
  if (live.next >= s.n && now >= live.end - 0.01) {
    if (s.over) return ended();
    live.starved = true; live.anchor = [now, live.next];
  }
}
function ended() {
  const s = sounds.get(live.key);
  hush();
  if (s.grid && s.key === heard) quarter = quarterOf(s, 0);
  tellRoll(); show();
}
setInterval(() => { if (live && element.isConnected) pump(); else if (live) hush(); }, 80);

// ---- what is chosen ----
function ready(key) { const s = sounds.get(key); return !!s && s.n > 0; }
function listenTo(key, go) {       // another sound, at the same musical moment
  const was = live && live.key, keep = live && was !== 'tried';
  if (live) { const s = sounds.get(was); if (s.grid) quarter = quarterOf(s, position()); }
  heard = key; wanted = '';
  if (!ready(key)) { if (keep || go) wanted = key; if (live) hush(); want(key); show(); return; }
  if (keep || go) begin(key, startOf(sounds.get(key))); else { show(); tellRoll(); }
}
function startOf(s) { return s.grid ? Math.max(0, sampleAt(s, quarter)) : 0; }
function toggle() {
  if (live && live.key !== 'tried') { hush(); tellRoll(); show(); }
  else if (heard) {
    const s = sounds.get(heard);
    if (s && s.grid && s.over && startOf(s) >= s.n - 100) quarter = quarterOf(s, 0);
    listenTo(heard, true);
  }
}
const passageOf = span => span && (s => [sampleAt(s, span[0]), sampleAt(s, span[1])]);
function loopOn() {          // called while something plays
  if (!live || !looped) return;
  const s = sounds.get(live.key);
  if (!s || !s.grid) return;
  const [from, to] = looped(s), start = Math.max(0, from), end = Math.min(s.over ? s.n : Infinity, to);
  if (end - start > RATE / 10 && position() >= end - 0.02 * RATE) begin(live.key, start);
}
function goTo(q) {
  quarter = q;
  const s = sounds.get(heard);
  if (live && live.key === heard && s.grid) { const at = sampleAt(s, q); hush(); quarter = q; begin(heard, at); } else { tellRoll(); show(); }
}
$('.level').onchange = () => { if (live) begin(live.key, position()); };

// ---- with the page ----
function on(name, fn) {     // what the roll and the others say, as long as this is on the page
  const heardIt = e => element.isConnected ? fn(e.detail || {}) : document.removeEventListener('etude:' + name, heardIt);
  document.addEventListener('etude:' + name, heardIt);
}
function release() { document.dispatchEvent(new CustomEvent('etude:heard', { detail: { doc: 0, by: WHO } })); }
function silence() { wanted = ''; if (live) hush(); release(); show(); }
on('rest', ({ to }) => { if (to === WHO) { if (live) hush(); quarter = 0; silence(); } });
let ticking = false;
function tick() {
  if (ticking) return;
  ticking = true;
  let last = 0;
  const turn = now => {
    if (!live || !element.isConnected) { ticking = false; return; }
    if (now - last > FRAME_MS) { last = now; loopOn(); showPlace(); tellRoll(); }
    requestAnimationFrame(turn);
  };
  requestAnimationFrame(turn);
}
function takeAway(file) {
  const link = document.createElement('a');
  link.href = file.url; link.download = file.orig_name || '';
  document.body.append(link); link.click(); link.remove();
}
