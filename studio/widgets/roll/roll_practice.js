// The piano roll, part 9 of 10: practice. Speed with the pitch kept, volume, metronome and count-in, on the sound of the roll.
let speed = 1, loud = 1, clicks = null, clicked = -1e9, counting = 0;     // clicks: the metronome's sound; counting: timer
const CLICK_AHEAD_SEC = .15, CLICK_EVERY_MS = 40;
const beatsOn = () => $('.metronome').getAttribute('aria-pressed') === 'true', countsIn = () => $('.countin').getAttribute('aria-pressed') === 'true';

function practise() {        // both players: one takes over from the other
  for (const one of [audio, spare]) { one.preservesPitch = true; one.defaultPlaybackRate = one.playbackRate = speed; }
  if (!coming) audio.volume = loud;
  Object.assign(cv.dataset, { speed, volume: loud, metronome: beatsOn(), countin: countsIn() });
}
function click(at, first) {
  const tone = clicks.createOscillator(), gain = clicks.createGain();
  tone.frequency.value = first ? 1760 : 1175;
  gain.gain.setValueAtTime(.35 * loud, at); gain.gain.exponentialRampToValueAtTime(.0005, at + .06);
  tone.connect(gain).connect(clicks.destination); tone.start(at); tone.stop(at + .07);
  cv.dataset.clicks = +(cv.dataset.clicks || 0) + 1;
}
function beatsBetween(from, to) {          // [[quarter, whether it begins a bar]] of the beats in (from, to], in quarters
  const found = [];
  for (let k = 0; k < score.bars.length; k++) {
    const [start, , beat = 1, position = 0] = score.bars[k], end = k + 1 < score.bars.length ? score.bars[k + 1][0] : score.end;
    if (end < from || start > to) continue;
    const ahead = Math.ceil(position / beat - 1e-6) * beat - position;     // a pickup begins inside its bar
    for (let q = start + ahead; q < end - 1e-6; q += beat) if (q > from && q <= to) found.push([q, q + position - start < 1e-6]);
  }
  return found;
}
function keepBeat() {        // clicks are handed to the sound card a little ahead, so that a busy page does not delay them
  if (!beatsOn() || audio.paused || !clicks || !score.bars.length) { clicked = -1e9; return; }
  const grid = heardGrid(), now = audio.currentTime * 1000, to = quarterAt(now + 1000 * CLICK_AHEAD_SEC * speed, grid);
  const here = quarterAt(now, grid);
  if (clicked > to || clicked < here - 1) clicked = here - 1e-3;           // it was moved: begin again from here
  for (const [q, first] of beatsBetween(clicked, to)) click(clicks.currentTime + Math.max(0, msAt(q, grid) - now) / 1000 / speed, first);
  clicked = to;
}
function countIn(go) {       // one bar at the tempo of the bar where the music begins
  const quarter = quarterAt(playheadMs()), bar = score.bars[barIndex(quarter, score.bars)];
  if (!countsIn() || !clicks || !bar) return go();
  const next = score.bars[barIndex(quarter, score.bars) + 1], beat = bar[2] || 1;
  const beats = Math.max(1, Math.round(((next ? next[0] : bar[0] + 4) - bar[0] + (bar[3] || 0)) / beat)), step = (msAt(quarter + beat) - msAt(quarter)) / speed;
  for (let k = 0; k < beats; k++) click(clicks.currentTime + .02 + k * step / 1000, k === 0);
  say('Counting in');
  counting = setTimeout(() => { counting = 0; live.textContent = ''; go(); }, 20 + beats * step);
  showButtons();
}
function stopCounting() { if (!counting) return false; clearTimeout(counting); counting = 0; live.textContent = ''; if (clicks) { clicks.close(); clicks = null; wakeClicks(); } showButtons(); return true; }
function wakeClicks() { try { clicks = clicks || new AudioContext(); if (clicks.state === 'suspended') clicks.resume(); } catch { /* no sound device */ } }
setInterval(() => { if (element.isConnected) keepBeat(); }, CLICK_EVERY_MS);
for (const name of ['metronome', 'countin']) $(`.${name}`).onclick = () => {
  const b = $(`.${name}`);
  b.setAttribute('aria-pressed', b.getAttribute('aria-pressed') !== 'true');
  wakeClicks(); practise();
};
$('.speed').onchange = e => { speed = +e.target.value / 100; practise(); };
$('.volume').oninput = e => { loud = (+e.target.value / 100) ** 2; practise(); };
onAudio('play', () => { if (beatsOn()) wakeClicks(); practise(); });
practise();
