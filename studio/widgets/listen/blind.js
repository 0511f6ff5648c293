// The player, part 3 of 4: the blind test. A is the preview, B the render, X one of the two; both equally loud, the
// same few seconds over and over, so that only the sound tells them apart.
const PASSAGE_SEC = 6, LEAST_SEC = 2;
let testing = false, trial = null, right = 0, tried = 0;     // trial: {x: 'a' | 'b', from: quarter, to: quarter, heardX}

const keyOf = which => which === 'a' ? `preview${current}` : which === 'b' ? `render${current}` : keyOf(trial.x);
function openBlind(open) {
  if (open === testing) return;
  testing = open; looped = null;
  if (live) hush();
  if (open) { right = tried = 0; want(`preview${current}`); nextTrial(''); } else { trial = null; heard = `render${current}`; }
  show(); drawPicture();
  if (open) $('.blind').scrollIntoView({ block: 'nearest' });
}
function nextTrial(before) {
  const s = sounds.get(`render${current}`), made = s ? s.n / RATE : 0;
  trial = null;
  if (made < LEAST_SEC) return sayBlind('The render is still too short: wait a moment, then open the test again.');
  const length = Math.min(PASSAGE_SEC, made), from = Math.random() * (made - length);
  trial = {
    x: crypto.getRandomValues(new Uint8Array(1))[0] & 1 ? 'a' : 'b', heardX: false, last: '',
    from: quarterOf(s, from * RATE), to: quarterOf(s, (from + length) * RATE),
  };
  quarter = trial.from;
  sayBlind(`${before}A is the preview, B is the render. Is X the one or the other? Switch as often as you like; a passage of ${length.toFixed(0)} s repeats.`);
}
function sayBlind(text) { $('.ask').textContent = text; }
function hear(which) {
  if (!trial) return;
  const key = keyOf(which), s = sounds.get(key);
  if (!ready(key)) return sayBlind('The preview is still being made; try again in a moment.');
  if (which === 'x') trial.heardX = true;
  trial.last = which;
  const at = live ? quarterOf(sounds.get(live.key), position()) : trial.from;
  looped = sound => [sampleAt(sound, trial.from), Math.min(sound.n, sampleAt(sound, trial.to))];
  heard = key;
  begin(key, sampleAt(s, Math.min(at, trial.to - 1e-3)));
}
function guess(which) {
  if (!trial) return;
  if (!trial.heardX) return sayBlind('Listen to X first.');
  const won = which === trial.x, was = trial.x.toUpperCase();
  tried++; right += won;
  if (live) hush();
  nextTrial(`${won ? 'Right' : 'No'}: X was ${was}. `);
  show();
}
function chance(k, n) {      // how likely k or more of n are right by guessing
  let sum = 0, term = 0.5 ** n;
  for (let i = 0; i <= n; i++) { if (i >= k) sum += term; term *= (n - i) / (i + 1); }
  return sum;
}
function showTally() {
  const verdict = !tried ? '' : chance(right, tried) < 0.05 ? 'you hear a difference' : 'no difference shown yet';
  $('.tally').textContent = tried ? `${right} of ${tried} right; guessing does as well with probability ${chance(right, tried).toFixed(2)}: ${verdict}.` : 'No answer yet.';
  Object.assign($('.blind').dataset, { right, tried });
  for (const b of element.querySelectorAll('[data-hear]')) {
    b.classList.toggle('on', !!live && !!trial && trial.last === b.dataset.hear);
    b.disabled = !trial;
  }
  for (const b of element.querySelectorAll('.guess')) b.disabled = !trial;
}
for (const b of element.querySelectorAll('[data-hear]')) b.onclick = () => hear(b.dataset.hear);
for (const b of element.querySelectorAll('.guess')) b.onclick = () => guess(b.dataset.guess);
$('.blind .again').onclick = () => { right = tried = 0; if (live) hush(); nextTrial(''); show(); };
$('.blind-open').onclick = () => openBlind(!testing);
