// The piano roll, part 3 of 10: notes that the composer is writing or a take that is heard, the pieces before and after
// this one, and what the roll shares with the engraved page and the takes.

// ---- a draft: drawn, not edited; the piece is under it, or hidden when the draft stands alone ----
let draft = null;      // {key, alone, running, rows: [[take, on, dur, pitch, staff]], start, end, head}
const ended = new Set();   // keys of jobs that are over: what they wrote has come
let wantedTake = 0;        // whose notes may be shown: the visitor may be back at the piece before they come
function receiveDraft(next) {
  if (ended.has(next.key) || (next.doc && next.doc !== doc.id)) return;      // over, or of a piece that has gone
  if (next.key.startsWith('take') && next.key !== `take${wantedTake}`) return;
  if (!draft || draft.key !== next.key) {
    draft = { key: next.key, title: next.title || '', grid: next.grid || null, alone: next.alone, running: next.running, rows: [], start: next.start, end: 0, head: -1 };
    if (!audio.paused) quiet();
    const from = next.rows.length ? Math.min(...next.rows.map(r => r[1])) : next.start;
    if (draft.alone) scrollTo(next.start ? next.start - 0.1 * (width() - KEY_W) / view.pxPerMs : 0); else if (X(from) > width() - 80 || X(from) < KEY_W) scrollTo(from - 0.3 * (width() - KEY_W) / view.pxPerMs);
  }
  draft.running = next.running;
  sayDraft();
  if (next.from <= draft.rows.length) draft.rows.push(...next.rows.slice(draft.rows.length - next.from));   // may come twice
  let latest = 0;
  for (const [take, on, dur, pitch] of next.rows) {
    if (take) continue;
    latest = Math.max(latest, on); draft.end = Math.max(draft.end, on + dur);
    if (pitch < view.lo + 1 || pitch > view.hi - 1) { view.lo = Math.max(0, Math.min(view.lo, pitch - 3)); view.hi = Math.min(127, Math.max(view.hi, pitch + 3)); mapImage = null; }
  }
  if (draft.running && X(latest) > width() - 60) scrollTo(latest - 0.75 * (width() - KEY_W) / view.pxPerMs);
  paint();
}
let titled = false;            // whether the title is that of a draft
let dropped = -Infinity;       // when
function backToPiece() { wantedTake = 0; if (draft && !draft.running) dropDraft(); }
function dropDraft() { wantedTake = 0; if (draft) { draft = null; dropped = performance.now(); sayDraft(); paint(); } }
function leaveDraft() { dropDraft(); share('sounds', { by: 'piece' }); }      // the piece is shown again, and nothing else plays
function sayDraft() {      // what is shown has its own title
  $('.shown').hidden = !draft || draft.running;
  if (draft && draft.alone && draft.title) { titled = true; $('.title').textContent = draft.title; $('.composer').textContent = ''; }
  else if (titled) { titled = false; showTitle(); }
  showButtons(); showPalette(); showVersions();
}
function drawDraft(w) {
  const h = rowH(), pad = h > 6 ? 1 : 0;
  for (const [take, on, dur, pitch, staff] of draft.rows) {
    if (take) continue;
    const x = X(on), nw = Math.max(2, dur * view.pxPerMs);
    if (x + nw < KEY_W || x > w) continue;
    ctx.fillStyle = staff === 2 ? (ink.dark ? '#2dd4bf' : '#0d9488') : ink.accent;
    ctx.beginPath(); ctx.roundRect(x, Y(pitch) + pad, Math.max(2, nw - 1), Math.max(2, h - 2 * pad), 2.5); ctx.fill();
  }
}
function mapDraft(y, s) {
  const step = (MAP_H - 6) / Math.max(1, view.hi - view.lo);
  ctx.fillStyle = ink.accent;
  for (const [take, on, dur, pitch] of draft.rows) if (!take) ctx.fillRect(KEY_W + on * s, y + 3 + (view.hi - pitch) * step, Math.max(1, dur * s), 1.2);
}
function openShown(then) { openTake(+draft.key.slice(4), then); }
// What acts on the piece waits while the roll shows something else.
function holdBack(e) {
  if (!element.isConnected) return document.removeEventListener('click', holdBack, true);
  if (!draft || !(e.target.closest && e.target.closest('.of-piece'))) return;
  e.preventDefault(); e.stopImmediatePropagation();
  if (draft.running) return trigger('refused', { shown: 'writing' });
  openShown(() => e.target.click());       // a take that is shown becomes the piece, then the press goes on
}
document.addEventListener('click', holdBack, true);
function draftHead() { return draft && draft.head >= 0 ? draft.start + draft.head : -1; }
function listen(name, fn) {          // on the document, for as long as the roll is on the page
  const heard = e => element.isConnected ? fn(e.detail) : document.removeEventListener('etude:' + name, heard);
  document.addEventListener('etude:' + name, heard);
}
listen('hear', ({ take }) => { wantedTake = take; });
listen('preview', ({ take, ms }) => {
  if (!draft || draft.key !== `take${take}`) return;
  draft.head = ms;
  if (ms >= 0) { const px = X(draftHead()); if (px > width() - 40 || px < KEY_W) scrollTo(draftHead() - 0.1 * (width() - KEY_W) / view.pxPerMs); }
  paint();
});

// ---- one sound at a time ----
listen('sounds', ({ by }) => { if (by !== 'roll') quiet(); });
onAudio('play', () => {
  backToPiece();
  document.dispatchEvent(new CustomEvent('etude:sounds', { detail: { by: 'roll' } }));
});

// ---- the player of renders, under the roll, is heard instead: it says where we are, and the roll's buttons are its ----
let borrowed = null;   // {by, quarter, playing, preview}
const share = (name, detail = {}) => document.dispatchEvent(new CustomEvent('etude:' + name, { detail }));
function giveBack() {     // the roll's own sound goes on from where the other one stood
  const q = borrowed.quarter;
  borrowed = null;
  if (soundTag) audio.currentTime = Math.max(0, msAt(q)) / 1000; else resume = q;
}
listen('heard', detail => {
  if (!detail.doc || detail.doc !== doc.id) { if (borrowed && borrowed.by === detail.by) giveBack(); } else borrowed = detail;
  if (borrowed && borrowed.playing) { wantPlay = false; follow(X(playheadMs())); }
  showButtons(); paint();
});

// ---- the pieces before and after this one; each finds its own undo steps again ----
const shelf = new Map();             // document number -> {undo, redo, take}
let turning = 0, stepped = -Infinity;        // when another piece was asked for, 0 when answered; when undo or redo was last pressed
function shelve(id) {
  if (id) shelf.set(id, { undo, redo, take });
  if (shelf.size > 40) shelf.delete(shelf.keys().next().value);
}
function unshelve(id, at) {
  const left = shelf.get(id);
  turning = 0;
  [undo, redo] = left && left.take === at ? [left.undo, left.redo] : [[], []];
}
const go = back => { turning = performance.now(); trigger('history', { back }); };
function turn(back) {        // no edit is left: an accepted take is undone like an edit; another piece takes another press
  const held = performance.now() - stepped < 350, title = back ? doc.past : doc.future;
  if (title === null || (turning && performance.now() - turning < 3000)) return;
  if (back ? doc.past_own : doc.future_own) { go(back); return; }
  if (held) return;
  $('.ask .question').textContent = back ? 'No edit is left to undo.' : 'No edit is left to redo.';
  $('.ask .yes').textContent = `${back ? 'Back' : 'Forward'} to “${(title || 'Untitled').slice(0, 40)}”`;
  $('.ask .yes').onclick = () => { answered(); go(back); };
  $('.ask').hidden = false; showJobs();
}
function answered() { $('.ask').hidden = true; showJobs(); }

// ---- the palette: what can be done with the selected bars; each press is one of the panels' own buttons ----
const DOES = { idea: '#infill-bars', vary: '#models-vary', render: '#render-bars' };
let palette = null;          // numbers of the first and the last selected bar
function showPalette() {
  const picked = [...sel].map(id => notes.get(id)).filter(Boolean), box = $('.palette');
  palette = null;
  if (picked.length && !draft && score.bars.length) {
    const written = picked.map(n => n.id <= doc.n && score.notes[n.id - 1] ? score.notes[n.id - 1][0] : quarterAt(n.on));
    palette = barsOfSpan(Math.min(...written), Math.max(...written) + 2e-3, score.bars).map(k => score.bars[k][1]);
    $('.palette .which').textContent = palette[0] === palette[1] ? `Bar ${palette[0]}` : `Bars ${palette[0]}–${palette[1]}`;
  }
  box.hidden = !palette;
  $('.palette [data-do=vary]').hidden = !document.querySelector('#models-vary');
}
const inPanel = panel => [0, 1].every(k => {
  const field = document.querySelector(`#${panel}-${k ? 'last' : 'first'} input`);
  return field && +field.value === palette[k];
});
function press(what) {
  if (what === 'again') return reperform();
  if (what === 'loop') { looping = false; return toggleLoop(); }
  if (what === 'copy') return copy([...sel]);
  const picked = sel, end = performance.now() + NAMED_MS, panel = what === 'render' ? 'render' : 'infill';
  const tab = document.querySelector(what === 'render' ? '#render-tab-button' : '#compose-tab-button');
  if (tab && tab.getAttribute('aria-selected') !== 'true') tab.click();       // Gradio creates a panel when it is first opened
  const look = () => {       // Python names the bars in the panels first, see 'chosen'
    if (picked !== sel || !palette) return;
    if (inPanel(panel) && document.querySelector(DOES[what])) document.querySelector(DOES[what]).click();
    else if (performance.now() < end) setTimeout(look, 50); else say('Not done: the server has not taken up the selection; press again.');
  };
  look();
}
const NAMED_MS = 8000;
for (const b of element.querySelectorAll('.palette button')) b.onclick = () => press(b.dataset.do);

// ---- shared with the engraved page: where we are, what is selected ----
const tell = (name, detail) => document.dispatchEvent(new CustomEvent('etude:' + name, { detail: { doc: doc.id, family: doc.family, ...detail } }));
let told = { sel: null, size: 0, clock: '' }, choosing = 0;
function tellAll() {
  const ms = playheadMs(), playing = !audio.paused || !!(borrowed && borrowed.playing), clock = `${doc.id}.${take}.${Math.round(ms)}.${playing}`;
  if (clock !== told.clock) {
    told.clock = clock;
    const sounding = [];
    if (playing) for (const n of notes.values()) if (n.id <= doc.n && n.on <= ms && ms < n.on + n.dur) sounding.push(n.id - 1);
    tell('clock', { quarter: quarterAt(ms), playing, sounding });
  }
  if (told.sel !== sel || told.size !== sel.size) {
    told.sel = sel; told.size = sel.size;
    followSelection();
    const chosen = [...sel].filter(id => id <= doc.n).map(id => id - 1);
    tell('selection', { by: 'roll', bars: null, notes: chosen });
    choose(chosen, null);
    showPalette();
  }
}
function choose(chosen, bars) {      // tell Python, which fills in the bars to compose anew
  clearTimeout(choosing);
  if (doc.id) choosing = setTimeout(() => trigger('chosen', { doc: doc.id, notes: chosen, bars }), 120);
}
listen('selection', detail => {
  if (detail.by === 'roll' || detail.doc !== doc.id) return;
  sel = new Set(detail.notes.map(i => i + 1).filter(id => notes.has(id))); pedalSel = -1;
  told.sel = sel; told.size = sel.size;
  choose(detail.notes, detail.bars);
  showPalette();
  if (sel.size) reveal(Math.min(...[...sel].map(id => notes.get(id).on)));
  showButtons(); paint();
});
listen('soon', () => { soon = performance.now(); });   // a worked example was chosen: what comes is to be heard
listen('seek', detail => { if (detail.doc === doc.id) { dropDraft(); seek(Math.max(0, msAt(detail.quarter))); } });
