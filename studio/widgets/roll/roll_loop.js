// The piano roll, part 4 of 10: a passage that repeats. It is kept in quarters, so a new style repeats the same bars.
let loop = null, looping = false;        // [from, to] quarters; whether it repeats
const LEAST_LOOP_MS = 120, LOOP_EDGE = 5;
const loopMs = (grid = doc.grid) => loop.map(q => msAt(q, grid));

function setLoop(from, to) {
  loop = [Math.min(from, to), Math.max(from, to)]; looping = true;
  tellLoop(`Repeating ${placeOf(msAt(loop[0]))} to ${placeOf(msAt(loop[1]))}`);
}
function tellLoop(text) {
  $('.loop').setAttribute('aria-pressed', looping);
  share('loop', { doc: doc.id, span: looping ? loop : null });
  say(text); paint();
}
function dropLoop() { if (!loop) return; loop = null; looping = false; tellLoop(''); }
function toggleLoop() {      // the selection, or what was marked before, or all of it
  if (!doc.id) return;
  if (looping) { looping = false; return tellLoop('Not repeating'); }
  const picked = [...sel].map(id => notes.get(id)).filter(Boolean);
  if (picked.length) setLoop(quarterAt(Math.min(...picked.map(n => n.on))), quarterAt(Math.max(...picked.map(n => n.on + n.dur))));
  else if (loop) setLoop(...loop); else setLoop(quarterAt(0), quarterAt(endMs()));
  keepLooping();
}
function keepLooping() {     // the audio element's own seek is all the gap there is
  if (!looping || !loop || audio.paused || !(soundTag || outgoing)) return;
  const [from, to] = loopMs(soundGrid || doc.grid);
  if (audio.currentTime * 1000 >= to) audio.currentTime = Math.max(0, from) / 1000;
}
setInterval(() => { if (looping && element.isConnected) keepLooping(); }, 10);
onAudio('timeupdate', keepLooping);
onAudio('ended', () => {
  if (!looping || !loop) return;
  audio.currentTime = Math.max(0, loopMs(soundGrid || doc.grid)[0]) / 1000;
  audio.play().catch(() => {});
});
function drawLoop(w) {
  if (!loop) return;
  const [a, b] = loopMs().map(X);
  if (b < KEY_W || a > w) return;
  ctx.fillStyle = ink.accent;
  ctx.globalAlpha = looping ? .3 : .12; ctx.fillRect(a, 0, b - a, RULER_H);
  ctx.globalAlpha = looping ? .06 : .03; ctx.fillRect(a, RULER_H, b - a, rollH());
  ctx.globalAlpha = looping ? .9 : .4; ctx.fillRect(a - .75, 0, 1.5, pedalY()); ctx.fillRect(b - .75, 0, 1.5, pedalY());
  ctx.globalAlpha = 1;
}
function loopEdge(x) { return loop ? loopMs().findIndex(ms => Math.abs(X(ms) - x) <= LOOP_EDGE) : -1; }
function rulerDown(e, x) {
  const edge = loopEdge(x);
  if (edge >= 0) drag = { kind: 'loop', other: loop[1 - edge], was: loop };
  else if (e.shiftKey) drag = { kind: 'loop', other: quarterAt(snap(T(x))), was: loop };
  else { drag = { kind: 'seek' }; seek(T(x)); }
}
function loopMoved(d, x) {
  const q = quarterAt(snap(Math.max(0, T(x))));
  loop = [Math.min(q, d.other), Math.max(q, d.other)]; paint();
}
function loopMade(d) {
  if (!loop || loop === d.was) return;
  const [from, to] = loopMs();
  if (to - from < LEAST_LOOP_MS) { loop = null; looping = false; tellLoop('Not repeating'); } else setLoop(...loop);
}
