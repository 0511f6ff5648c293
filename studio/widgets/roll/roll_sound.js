// The piano roll, part 2 of 10: what Python sends, and the sound.
let soundTag = '', soundGrid = null;     // "doc.take.rev" of the notes that the player's sound was made of
let resume = null, wantPlay = false;     // a musical position, quarters, to go on from when new sound comes
let settleTimer = 0, asked = 0, freshest = 0;
const SOON = 180000;                     // milliseconds in which a piece that was asked for begins to play by itself
let soon = -SOON;                        // when it was asked for
const PATIENCE = 8000;                   // milliseconds until an unanswered question is asked again
const sent = [];                         // patches that Python may not have seen yet: [{rev, patch}]
let undo = [], redo = [];                // [{undo: patch, redo: patch, label}]
const tag = () => `${doc.id}.${take}.${rev}`;
const say = text => { if (text) live.textContent = text; };
const unanswered = e => element.isConnected ? say(`Not done: ${e.detail}`) : document.removeEventListener('etude:unanswered', unanswered);
document.addEventListener('etude:unanswered', unanswered);   // a request that the server refused, see page.js

function receive(value) {
  if (!value) return;
  say(value.note);
  if (value.score) { score = JSON.parse(value.score); showTitle(); }
  if (value.draft) receiveDraft(JSON.parse(value.draft));
  if (value.doc) receiveNotes(value);          // after it: a first piece takes the place of its draft
  if (value.file && value.file.url) receiveFile(value);
  if (value.audio && value.audio.url) receiveSound(value);
  else if (value.sound_of) { asked = 0; wantPlay = false; clearTimeout(settleTimer); settleTimer = 0; showButtons(); }   // refused
  if (value.job) receiveJob(JSON.parse(value.job), value.sound_of);
  paint();
}

// ---- jobs: whatever takes longer than a moment ----
const jobs = new Map();                  // number -> {text, share, kind, watch}
const ASK_AGAIN = 3000;                  // milliseconds until a question about a job is taken for lost
let lastFile = 0, lastRefused = 0;
function receiveJob(job, answered) {
  const known = jobs.get(job.id);
  if (known) clearTimeout(known.watch);
  jobs.delete(job.id);
  if (!job.over) {
    jobs.set(job.id, { ...job });
    if (job.kind !== 'sound') asked = 0;               // there will be other notes first
    else if (job.of === tag()) asked = performance.now();
    else { asked = 0; settle(200); }                   // the notes have changed since: that sound is not wanted
    askJob(job.id, job.ready);
  } else if (job.kind === 'sound') {
    asked = 0;
    if (job.by === 'visitor') { wantPlay = false; clearTimeout(settleTimer); settleTimer = 0; showButtons(); }
    else if (!answered && !job.refused) settle(200);
  } else if (known) settle(100);
  if (job.over) ended.add(`job${job.id}`);
  if (job.over && (job.refused || job.kind === 'open') && hopping) { hopping = null; showVersions(); }
  if (job.over && job.kind === 'open' && !arrived) { arrived = true; document.body.dataset.piece = 'none'; say('Nothing is open'); }
  if (job.over && draft && draft.key === `job${job.id}` && (job.by || job.refused)) dropDraft();
  if (job.refused && job.id > lastRefused) { lastRefused = job.id; trigger('refused', { job: job.id }); }
  showJobs();
}
function askJob(id, ready) {
  const job = jobs.get(id);
  if (!job) return;
  clearTimeout(job.watch);
  job.watch = setTimeout(() => askJob(id), ASK_AGAIN);
  trigger(ready ? 'collect' : 'waiting', { job: id, have: draft && draft.key === `job${id}` ? draft.rows.length : 0 });
}
function showJobs() {
  const latest = [...jobs.values()].filter(j => j.kind !== 'audition').pop(), bar = $('.busy progress');
  $('.busy').hidden = !latest; live.hidden = !!latest || !$('.ask').hidden;
  if (!latest) return;
  $('.busy .what').textContent = latest.text + '…' + (latest.share ? ` ${Math.round(100 * latest.share)} %` : '');
  if (latest.share) bar.value = latest.share; else bar.removeAttribute('value');
}
function receiveFile(value) {            // offered once, though the answer may come twice
  const id = value.job ? JSON.parse(value.job).id : 0;
  if (id && id === lastFile) return;
  lastFile = id;
  const link = document.createElement('a');
  link.href = value.file.url; link.download = value.file.orig_name || '';
  document.body.append(link); link.click(); link.remove();
}
function showTitle() {    // of the piece; textContent, never a template: anyone may have typed this
  $('.title').textContent = score.title || 'Untitled';
  $('.composer').textContent = score.composer || '';
  const lines = score.remarks || [], box = $('.remarks');
  box.hidden = !lines.length; box.open = false;
  $('.remarks summary').textContent = lines.length === 1 ? '1 remark' : `${lines.length} remarks`;
  $('.remarks ul').replaceChildren(...lines.map(line => Object.assign(document.createElement('li'), { textContent: line })));
}
const fromRow = ([id, pitch, on, dur, vel]) => [id, { id, pitch, on, dur, vel }];
function receiveNotes(value) {
  const next = JSON.parse(value.doc), same = next.id === doc.id, oldGrid = doc.grid, oldBase = base;
  const stay = same && value.take !== take ? placeOnScreen() : null, { pxPerMs } = view;
  const hopped = !same && hopping && next.family === doc.family ? hopping : null;
  if (same && (value.take < take || (value.take === take && value.rev <= freshest))) return;   // overtaken by a later answer, or come twice
  hush(same || !!hopped, same);
  notes = new Map(next.notes.map(fromRow));
  base = new Map(next.notes.filter(row => row[0] <= next.n).map(fromRow));
  for (const [id, row] of Object.entries(next.base)) base.set(+id, fromRow([+id, ...row])[1]);
  pedal = next.pedal; ownPedal = next.own_pedal;
  const moved = take !== value.take;
  if (!same) shelve(doc.id);
  doc = { id: next.id, n: next.n, past: next.past, future: next.future, past_own: next.past_own, future_own: next.future_own, family: next.family, versions: next.versions, version: next.version, pair: next.pair, grid: next.grid, pianistPedal: ownPedal ? (same ? doc.pianistPedal : []) : pedal };
  take = value.take; freshest = value.rev; arrived = true; document.body.dataset.piece = next.id ? 'here' : 'none';
  if (same) {
    if (moved) backToPiece();
    if (moved) for (const step of [...undo, ...redo]) for (const side of ['undo', 'redo']) step[side] = carry(step[side], oldGrid, oldBase);
    while (sent.length && sent[0].rev <= value.rev) sent.shift();
    for (const { patch } of sent) apply(patch);              // made while Python was at work: Python has them too by now
    sel = new Set([...sel].filter(id => notes.has(id)));
    rev = Math.max(rev, value.rev);
  } else {
    rev = value.rev; sel = new Set(); pedalSel = -1; answered(); unshelve(next.id, value.take); draft = null; sayDraft(); dropLoop(); sent.length = 0; nextId = next.n + 1;
    if (hopped) { wantPlay = hopped.playing; if (!outgoing) resume = hopped.quarter; }
    else { dropComing(); audio.removeAttribute('src'); audio.load(); resume = null; wantPlay = next.id > 0 && performance.now() - soon < SOON; }
    if (next.id) soon = -SOON; cursor.shown = false;
    readTheme(); fit(false);
    if (hopped) landed(hopped, pxPerMs);
  }
  for (const id of notes.keys()) nextId = Math.max(nextId, id + 1);
  if (stay) keepOnScreen(stay);
  mapImage = null; going = 0;
  if (!same) hopping = null;
  refreshTable();
  showButtons(); showVersions();
  asked = 0;      // any sound asked for before was that of other notes
  settle(60);
  if (hopped && hopped.then) setTimeout(hopped.then);
}
function placeOnScreen() {    // the musical position that the eye is on: the playhead, or the middle of the roll
  const seen = ms => X(ms) >= KEY_W && X(ms) <= width(), ms = seen(playheadMs()) ? playheadMs() : T((KEY_W + width()) / 2);
  return { quarter: quarterAt(ms), x: X(ms), t0: view.t0, notes };
}
function keepOnScreen({ quarter, x, t0, notes: before }) {     // the same place in the new performance, and the notes glide there
  view.t0 = Math.max(0, msAt(quarter) - (x - KEY_W) / view.pxPerMs);
  if (matchMedia('(prefers-reduced-motion: reduce)').matches) return;
  const by = view.t0 - t0;
  glide = { start: performance.now(), from: new Map([...before.values()].map(n => [n.id, { ...n, on: n.on + by }])) };
}
function carry(patch, oldGrid, oldBase) {     // a step of undo, re-expressed for another rendering of the same notes
  const move = ms => Math.max(0, Math.round(msAt(quarterAt(ms, oldGrid))));
  const put = patch.put.map(([id, pitch, on, dur, vel]) => {
    const was = oldBase.get(id), is = base.get(id);
    if (!was || !is) return [id, pitch, move(on), Math.max(10, move(on + dur) - move(on)), vel];
    const start = on === was.on ? is.on : move(on);
    return [id, pitch === was.pitch ? is.pitch : pitch, start,
      dur === was.dur ? is.dur : Math.max(10, move(on + dur) - move(on)), vel === was.vel ? is.vel : vel];
  });
  const spans = patch.pedal && patch.pedal.map(([a, b]) => [move(a), Math.max(move(a) + 1, move(b))]);
  return { ...patch, put, ...(patch.pedal ? { pedal: spans } : {}) };
}

// ---- sound: only ever the sound of the notes that are shown ----
function settle(wait) {      // ask for sound once the notes have been left alone for a moment
  clearTimeout(settleTimer);
  settleTimer = setTimeout(() => {
    settleTimer = 0;
    if (!doc.id || soundTag === tag() || [...jobs.values()].some(j => j.kind === 'play' || j.kind === 'open')) return;
    const now = performance.now();
    if (asked && now - asked < PATIENCE) return settle(asked + PATIENCE - now + 10);    // the answer will settle again
    asked = now;
    trigger('settle', { doc: doc.id, take });
    settle(PATIENCE);
  }, wait);
}
let outgoing = false;        // the sound of the notes before goes on until the new sound can take over
let coming = null;           // {of, url}: the sound that will
const FADE_MS = 120, TAKE_OVER_MS = 4000;
const heardGrid = () => soundGrid || doc.grid;
const soundQuarter = () => quarterAt(audio.currentTime * 1000, heardGrid());
function hush(keepPlace, same = keepPlace) {   // the notes are about to differ from the sound
  if (borrowed && keepPlace) resume = borrowed.quarter;
  borrowed = null; share('changed', { same });
  const playing = !audio.paused;
  if (keepPlace && (soundTag || outgoing) && audio.src) {
    if (playing || resume === null) resume = soundQuarter();
    wantPlay = wantPlay || playing;
  }
  soundTag = ''; dropComing();
  outgoing = keepPlace && playing;
  if (!outgoing) audio.pause();
  showButtons();
}
function quiet() {           // no sound of the roll's own, and its place is kept
  if (outgoing) resume = soundQuarter();
  wantPlay = outgoing = false; dropComing(); audio.pause(); showButtons();
}
function dropComing() { if (coming) { coming = null; spare.pause(); spare.removeAttribute('src'); } }
function receiveSound(value) {
  const of = `${value.sound_of}.${value.take}.${value.rev}`, { url } = value.audio;
  asked = 0;
  if (of !== tag()) return settle(200);       // the sound of other notes: ask again
  if ((soundTag === of && audio.src === url) || (coming && coming.of === of && coming.url === url)) return;
  if (!audio.paused && (outgoing || soundTag === of)) return takeOver(of, url);
  if (wantPlay && !soundTag && quarterHeard() !== null) resume = quarterHeard();      // a preview of the take goes on as the piece
  const at = soundTag === of ? audio.currentTime : resume === null ? 0 : Math.max(0, msAt(resume) / 1000);
  begin(of, url, at, wantPlay);
}
function begin(of, url, at, go) {
  outgoing = false; dropComing();
  soundTag = of; soundGrid = doc.grid; resume = null; wantPlay = false;
  audio.src = url; audio.playbackRate = speed;
  if (at > 0) audio.currentTime = at;
  if (go) audio.play().catch(() => {});
  showButtons();
}
function takeOver(of, url) {  // the new sound begins at the bar where the old one is, then the two cross-fade
  const mine = coming = { of, url }, next = spare, grid = doc.grid;
  const place = () => Math.max(0, msAt(soundQuarter(), grid) / 1000), overtaken = () => coming !== mine || of !== tag();
  const failed = () => { if (overtaken()) return; const at = place(), go = !audio.paused || wantPlay; begin(of, url, at, go); };
  const late = setTimeout(failed, TAKE_OVER_MS);
  next.onerror = () => { clearTimeout(late); failed(); };
  next.oncanplay = () => {
    next.oncanplay = null;
    if (overtaken()) return clearTimeout(late);
    next.volume = 0; next.playbackRate = speed; next.currentTime = place() + .04;
    next.play().catch(failed);
  };
  next.onplaying = () => {
    clearTimeout(late);
    if (overtaken()) return next.pause();
    next.onplaying = next.onerror = null;
    if (Math.abs(next.currentTime - place()) > .06) next.currentTime = place() + .02;
    const old = audio, start = performance.now();
    [audio, spare] = [next, old];
    soundTag = of; soundGrid = grid; outgoing = false; coming = null; resume = null; wantPlay = false;
    const fade = setInterval(() => {
      const share = (performance.now() - start) / FADE_MS, [fresh, stale] = fadeGains(share);
      next.volume = fresh * loud; if (spare === old) old.volume = stale * loud;
      if (share < 1) return;
      clearInterval(fade); next.volume = loud;
      if (spare !== old || coming) return;
      old.pause(); old.volume = 1; next.after(old);         // the first of the two is the one that plays
    }, 15);
    showButtons(); paint();
  };
  next.src = url; next.load();
}
const playheadMs = () => borrowed ? Math.max(0, msAt(borrowed.quarter)) : outgoing ? Math.max(0, msAt(soundQuarter())) : soundTag ? audio.currentTime * 1000 : resume === null ? 0 : Math.max(0, msAt(resume));
function playPause() {
  if (!doc.id) return;
  if (borrowed && (borrowed.playing || !borrowed.preview)) return share('toggle', { to: borrowed.by });
  if (borrowed) giveBack();
  if (draft && !draft.running) return share('takes', { key: draft.key });     // the take that is shown is the one that plays
  if (outgoing) return quiet();
  if (!soundTag) { wantPlay = !wantPlay; settle(0); say(wantPlay ? 'Preparing the sound' : ''); }
  else if (stopCounting()) return; else if (audio.paused) countIn(() => audio.play().catch(() => {})); else audio.pause();
  showButtons(); paint();
}
function stop() {
  stopCounting(); quiet(); resume = null;
  if (borrowed) { const { by } = borrowed; borrowed = null; share('rest', { to: by }); }
  if (soundTag) audio.currentTime = 0;
  view.t0 = 0; showButtons(); paint();
}
function seek(ms) {
  ms = Math.max(0, ms);
  if (borrowed) { borrowed.quarter = quarterAt(ms); share('goto', { doc: doc.id, to: borrowed.by, quarter: borrowed.quarter }); return paint(); }
  if (outgoing) audio.currentTime = Math.max(0, msAt(quarterAt(ms), heardGrid())) / 1000;
  else if (soundTag) audio.currentTime = ms / 1000; else resume = quarterAt(ms);
  paint();
}
const clockText = sec => `${Math.floor(sec / 60)}:${(sec % 60).toFixed(1).padStart(4, '0')}`;
function showClock() { $('.clock').textContent = `${clockText(playheadMs() / 1000)} / ${clockText(endMs() / 1000)}`; }
function showButtons() {
  $('.undo').disabled = !undo.length && doc.past === null; $('.redo').disabled = !redo.length && doc.future === null;
  $('.again').disabled = ![...sel].some(id => id <= doc.n);
  $('.play').classList.toggle('playing', !audio.paused || wantPlay || counting > 0 || !!(borrowed && borrowed.playing) || draftHead() >= 0);
  $('.play').classList.toggle('waiting', wantPlay && !soundTag);
}
function onAudio(name, fn) { for (const one of [audio, spare]) one.addEventListener(name, () => { if (one === audio) fn(); }); }
for (const name of ['play', 'pause', 'ended', 'seeked']) onAudio(name, () => { showButtons(); paint(); });
onAudio('ended', () => { outgoing = false; });

let voice = null;            // one short tone under the finger, so that a moved note is heard at once
function beep(pitch, velocity = 80) {
  if (!audio.paused) return;
  try {
    voice = voice || new AudioContext();
    const t = voice.currentTime, tone = voice.createOscillator(), gain = voice.createGain();
    tone.type = 'triangle'; tone.frequency.value = 440 * 2 ** ((pitch - 69) / 12);
    gain.gain.setValueAtTime(0.25 * (velocity / 127) ** 1.5, t); gain.gain.exponentialRampToValueAtTime(0.0005, t + 0.35);
    tone.connect(gain).connect(voice.destination); tone.start(t); tone.stop(t + 0.36);
  } catch { /* no sound device: the edit itself still works */ }
}
