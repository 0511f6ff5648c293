// The player, part 4 of 4: what Python says, what it is asked, and what stands on the page. Given by Gradio: element,
// trigger, props, watch. Events raised, in quotes so that Gradio makes a listener of each: 'more', 'halt', 'other',
// 'save'. The parts are joined and run once.
const WHO = 'listen';
const yardstick = () => sounds.get(`render${current}`);
const renders = new Map();        // number -> {about, state}
let current = 0;                  // the render that is shown
let asking = 0, askedAt = 0;      // the render whose next sound was asked for
const otherAsked = new Map();     // key -> when it was asked for
const PATIENCE = 3000;
const KEPT = 3;

function receive(value) {
  if (!value || !value.news) return;
  const news = JSON.parse(value.news);
  if (value.file && value.file.url) takeAway(value.file);
  if (news.refused) { const r = renders.get(news.number); if (r) r.problem = news.refused; else problem = news.refused; }
  if (news.kept) receiveKept(news.kept);
  if (news.begun) receiveBegun(news);
  if (news.state) receiveState(news.state);
  if (value.audio && value.audio.url) receiveAudio(news, value.audio.url);
  else if (news.state) { if (asking === news.state.number) asking = 0; ask(); }
  show();
}
let problem = '', triedName = '';     // the name of the recording that was played last
let stand = { doc: 0, family: null };        // which piece is on the roll
const belongs = r => stand.family === null || r.about.family === stand.family;
on('clock', ({ doc, family }) => {           // renders are shown with their piece
  if (doc === stand.doc && family === stand.family) return;
  const moved = family !== stand.family;
  stand = { doc, family };
  if (moved) {
    if (testing) openBlind(false);
    if (live && live.key !== 'tried') hush();
    current = Math.max(0, ...[...renders].filter(([, r]) => belongs(r)).map(([number]) => number));
    heard = current ? `render${current}` : ''; wanted = '';
    drawPicture();
  }
  show();
});
function receiveKept(numbers) {     // a project was opened: its renders in the place of these
  if (testing) openBlind(false);
  if (live) hush();
  for (const number of [...renders.keys()]) forget(number);
  current = 0; heard = wanted = '';
  for (const number of numbers) trigger('more', { render: number, have: 0, begun: false });
}
function receiveBegun({ begun, state }) {
  if (renders.has(state.number)) return;
  if (testing) openBlind(false);
  for (const r of renders.values()) r.late = r.late || begun.doc !== r.about.doc;
  renders.set(state.number, { about: begun, state, stale: !!begun.outdated, problem: '' });
  while (renders.size > KEPT) forget(renders.keys().next().value);
  if (begun.quiet && (current > state.number || !belongs({ about: begun }))) return void sound(`render${state.number}`, { grid: begun.grid, from: begun.from });
  current = state.number; problem = '';
  const key = `render${current}`, s = sound(key, { grid: begun.grid, from: begun.from });
  s.total = state.total;
  if (begun.quiet) { heard = key; return; }       // it came with a project: there to be played
  if (live) hush();
  quarter = quarterOf(s, 0); heard = wanted = key;
  wake();
  document.dispatchEvent(new CustomEvent('etude:dock', { detail: 'sound' }));      // see page.js
  document.dispatchEvent(new CustomEvent('etude:sounds', { detail: { by: WHO } }));
}
function forget(number) {
  renders.delete(number);
  for (const key of [...sounds.keys()]) if (/\d+$/.exec(key)?.[0] === String(number)) { if (live && live.key === key) hush(); sounds.delete(key); }
}
function receiveState(state) {
  const r = renders.get(state.number);
  if (r && (state.over !== r.state.over || !state.have !== !r.state.have)) document.dispatchEvent(new CustomEvent('etude:made'));
  if (r && !(r.state.over && !state.over)) r.state = state;
  if (state.latest && !renders.has(state.latest)) trigger('more', { render: state.latest, have: 0, begun: false });
  const s = sounds.get(`render${state.number}`);
  if (!s) return;
  s.total = state.over ? Math.max(state.have, 1) : Math.max(state.total, s.n);
  s.over = state.over && s.n >= state.have;
}
async function receiveAudio(news, url) {
  let samples;
  try { samples = await fetched(url); } catch { asking = 0; return setTimeout(ask, 500); }
  if (news.of === 'tried') {
    const again = live && live.key === 'tried' && triedName === news.name;
    triedName = news.name;
    if (live) hush();
    sounds.delete('tried');
    if (!again) { const s = sound('tried'); append(s, 0, samples); s.over = true; begin('tried', 0); }
    return show();
  }
  const number = +/\d+$/.exec(news.of)[0], r = renders.get(number);
  if (!r) return;
  const which = news.which, about = r.about;
  const grid = which === 'human' ? about.human : which === 'prompt' ? null : about.grid;
  const s = sound(news.of, { grid, from: which ? 0 : about.from });
  append(s, news.first || 0, samples);
  if (which) { s.over = true; otherAsked.delete(news.of); } else { s.total = r.state.over ? r.state.have : Math.max(r.state.total, s.n); s.over = r.state.over && s.n >= r.state.have; if (asking === number) asking = 0; }
  if (wanted === news.of) { wanted = ''; begin(news.of, startOf(s)); } else if (live && live.key === news.of) pump();
  if (news.of === heard) drawPicture();
  if (!which) { ask(); if (s.over || s.n > 8 * RATE) want(`preview${number}`); }
  show();
}
function ask() {             // for the rest of the render that is being made, or has been
  if (asking && performance.now() - askedAt < PATIENCE) return;
  for (const [number, r] of renders) {
    const s = sounds.get(`render${number}`);
    if (!s || s.over || r.problem || (r.state.over && s.n >= r.state.have)) continue;
    asking = number; askedAt = performance.now();
    trigger('more', { render: number, have: s.n });
    return setTimeout(ask, PATIENCE + 50);
  }
}
function want(key) {         // a sound to compare with, if it is not here
  const [, which, number] = /^(\D+)(\d+)$/.exec(key) || [];
  if (!which || which === 'render' || ready(key) || !renders.has(+number)) return;
  const last = otherAsked.get(key) || -PATIENCE;
  if (performance.now() - last < 700) return;
  otherAsked.set(key, performance.now());
  trigger('other', { render: +number, which });
  setTimeout(() => { if (!ready(key) && (wanted === key || heard === key || which === 'preview')) want(key); }, 1500);
}

// ---- the page ----
function sourcesOf(r) {
  const list = [[`preview${current}`, 'Preview', 'The same notes on the sampled piano']];
  for (const [number, other] of renders) if (belongs(other)) list.push([`render${number}`, renders.size > 1 ? `Render ${number}` : 'Render', `${other.about.prompt}, seed ${other.about.seed}`]);
  if (r.about.human) list.push([`human${current}`, r.about.human_name.split(' ')[0] || 'Human', `${r.about.human_name}, on the sampled piano`]);
  list.push([`prompt${current}`, 'Reference', `The reference alone: ${r.about.prompt}`]);
  return list;
}
let drawnSources = '';
function showSources(r) {
  const list = sourcesOf(r), tag = JSON.stringify(list);
  if (tag !== drawnSources) {
    drawnSources = tag;
    $('.sources').replaceChildren(...list.map(([key, label, title]) => {
      const b = document.createElement('button');
      b.type = 'button'; b.textContent = label; b.title = title; b.dataset.key = key; b.setAttribute('role', 'radio');
      b.onclick = () => {
        const number = +/\d+$/.exec(key)[0];
        if (key.startsWith('render')) current = number;
        listenTo(key, false); drawPicture();
      };
      return b;
    }));
  }
  for (const b of $('.sources').children) {
    b.setAttribute('aria-checked', !testing && b.dataset.key === heard);     // blind is blind
    b.classList.toggle('coming', b.dataset.key === heard && !ready(b.dataset.key));
    b.disabled = testing;
  }
}
const clock = sec => `${Math.floor(sec / 60)}:${(sec % 60).toFixed(1).padStart(4, '0')}`;
function statusOf({ about, state, problem, stale }) {
  if (problem || state.refused) return problem || state.refused;
  if (state.over && state.by === 'visitor') return 'Cancelled; the finished part can be played';
  if (state.over && state.by) return 'Replaced by a newer render';
  if (state.over && stand.doc && about.doc !== stand.doc) return 'Rendered from another version of this piece';
  if (state.over) return stale ? 'Rendered before your last change' : '';
  const share = `${state.text} ${Math.round(100 * state.share)} %`;
  if (state.left === null) return `${state.text}…`;
  return state.left >= 1.5 ? `${share}, ${Math.round(state.left) >= 90 ? `${Math.round(state.left / 60)} min` : `${Math.round(state.left)} s`} left` : share;
}
function show() {
  const r = renders.get(current), strip = $('.listen');
  strip.hidden = !r;
  if (!r) return;
  const { about, state } = r;
  $('.which').textContent = [about.title, about.prompt, about.part === 'the whole piece' ? '' : about.part, `seed ${about.seed}`].filter(Boolean).join(' · ');
  $('.status').textContent = statusOf(r);
  $('.status').classList.toggle('bad', !!(r.problem || state.refused));
  $('.remark').textContent = state.remark || '';
  $('.remark').hidden = !state.remark;
  const bar = $('.words progress');
  bar.hidden = $('.halt').hidden = state.over || !!r.problem;
  if (state.share) bar.value = state.share; else bar.removeAttribute('value');
  showSources(r);
  $('.play').classList.toggle('playing', !!live && live.key !== 'tried');
  $('.play').classList.toggle('waiting', !!wanted || (!!live && live.starved));
  $('.play').disabled = testing;
  for (const b of element.querySelectorAll('.save')) b.disabled = !state.have;
  $('.blind').hidden = !testing;
  $('.blind-open').setAttribute('aria-expanded', testing);
  $('.level').disabled = testing;
  if (testing) { $('.level').checked = true; showTally(); }
  showPlace();
  const s = sounds.get(`render${current}`);
  Object.assign(strip.dataset, {
    render: current, heard: testing ? '' : heard, playing: !!live, made: s ? s.n : 0, channels: s ? (s.right ? 2 : 1) : 0, whole: !!s && s.over, over: state.over, by: state.by,
    ready: [...sounds.values()].filter(x => x.n).map(x => x.key).join(' '),
  });
}
function showPlace() {
  const s = sounds.get(heard), needle = $('.needle');
  needle.hidden = !s || !s.n || testing;
  if (needle.hidden) { $('.clock').textContent = '–'; return; }
  const at = live && live.key === heard ? position() : startOf(s);
  needle.style.left = `${100 * Math.min(1, at / s.total)}%`;
  $('.clock').textContent = `${clock(s.from / 1000 + Math.min(at, s.total) / RATE)} / ${clock((s.from / 1000) + s.total / RATE)}`;
  $('.listen').dataset.at = Math.round(at);
}

// ---- with the roll and the lens ----
on('spectrum-wanted', () => {     // of the render that is heard; the lens has the roll's own sound
  const s = sounds.get(heard), r = renders.get(current), fits = s && r && s.grid && s.n && !testing && !heard.startsWith('preview');
  const detail = fits ? { doc: r.about.doc, key: `${heard}.${s.n}`, data: s.data, n: s.n, from: s.from, grid: s.grid } : { doc: 0 };
  document.dispatchEvent(new CustomEvent('etude:spectrum', { detail }));
});
function tellRoll() {
  const s = sounds.get(heard), r = renders.get(current);
  if (!s || !r || testing || !s.grid || live?.key === 'tried') return;
  const q = live && live.key === heard ? quarterOf(s, position()) : quarter;
  document.dispatchEvent(new CustomEvent('etude:heard', { detail: { doc: r.about.doc, by: WHO, quarter: q, playing: !!live, preview: heard.startsWith('preview') } }));
}
on('sounds', ({ by }) => { if (by === 'tried') release(); else if (by !== WHO) silence(); });
on('goto', ({ doc, to, quarter: q }) => { const r = renders.get(current); if (to === WHO && r && r.about.doc === doc) goTo(q); });
on('loop', ({ doc, span }) => { const r = renders.get(current); if (!testing) looped = passageOf(r && r.about.doc === doc ? span : null); });
on('toggle', ({ to }) => { if (to === WHO) toggle(); });
on('changed', ({ same }) => {
  for (const r of renders.values()) if (same && r.about.doc === stand.doc) r.stale = true;
  if (live && live.key !== 'tried' && !testing) hush();
  wanted = wanted.startsWith('render') ? wanted : '';
  release(); show();
});
document.addEventListener('pointerdown', e => {       // opening the sound card takes a moment: do it while Python begins
  if (element.isConnected && e.target.closest && e.target.closest('#render, #render-hear, #gallery, #render-window')) wake();
});
$('.play').onclick = () => toggle();
$('.halt').onclick = () => { wanted = ''; trigger('halt', { render: current }); $('.status').textContent = 'Cancelling…'; };
for (const b of element.querySelectorAll('.save')) b.onclick = () => trigger('save', { render: current, kind: b.dataset.kind });
watch('value', () => receive(props.value));
receive(props.value);
