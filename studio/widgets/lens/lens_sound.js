// The lens, part 1 of 3: the spectrum of the sound that plays. A picture is made once for a sound, a few columns a frame.
const COLUMN_SEC = 0.02, MOST_COLUMNS = 4000, COLUMNS_A_FRAME = 50, LONGEST_SEC = 1200;
const HZ = [[100, '100 Hz'], [1000, '1 kHz'], [10000, '10 kHz']];
let picture = null;          // {key, sheet, drawn, columns, msPerColumn, from, grid, problem}

function wantPicture() {     // of the render that is heard, else of the roll's own sound
  document.dispatchEvent(new CustomEvent('etude:spectrum-wanted'));
  const render = rendered && axis && rendered.doc === axis.doc ? rendered : null;
  const own = axis && axis.doc && axis.sound;
  const key = render ? render.key : own ? own.url : '';
  const frame = `${key}.${isDark()}`;
  if (!key) return;
  if (picture && picture.frame === frame) return;
  picture = { frame, drawn: 0, columns: 0, problem: '' };
  if (render) begun(picture, render.data, render.n, render.from, render.grid); else decode(picture, own.url, own.grid);
}
let rendered = null;         // what the player of renders plays
function receiveRendered({ detail }) {
  if (!element.isConnected) return document.removeEventListener('etude:spectrum', receiveRendered);
  rendered = detail.doc ? detail : null;
}
document.addEventListener('etude:spectrum', receiveRendered);

async function decode(mine, url, grid) {
  try {
    const bytes = await (await fetch(url)).arrayBuffer();
    const sound = await new OfflineAudioContext(1, 1, SAMPLED_HZ).decodeAudioData(bytes);
    if (picture !== mine) return;
    if (sound.duration > LONGEST_SEC) { mine.problem = 'The spectrum is drawn of up to 20 minutes; render some bars to see theirs'; return paint(); }
    begun(mine, sound.getChannelData(0), sound.length, 0, grid);
  } catch { mine.problem = 'The sound could not be read; press Play, then Spectrum again'; paint(); }
}
function begun(mine, data, n, from, grid) {
  const columns = Math.max(1, Math.min(MOST_COLUMNS, Math.ceil(n / (SAMPLED_HZ * COLUMN_SEC)))), sheet = document.createElement('canvas');
  sheet.width = columns; sheet.height = SPEC_H;
  Object.assign(mine, { sheet, columns, from, grid, msPerColumn: n / SAMPLED_HZ * 1000 / columns });
  const pen = sheet.getContext('2d'), ink = isDark() ? inks.dark : inks.light, per = n / columns;
  const turn = () => {
    if (picture !== mine || !element.isConnected) return;
    const upto = Math.min(columns, mine.drawn + COLUMNS_A_FRAME);
    for (; mine.drawn < upto; mine.drawn++) paintSpectrum(pen, mine.drawn, 0, data, (mine.drawn + .5) * per | 0, n, ink);
    paint();
    if (mine.drawn < columns) requestAnimationFrame(turn);
  };
  turn();
}
function drawSpectrum(w, h) {
  wantPicture();
  const p = picture;
  if (!p || !p.sheet) return say(p && p.problem ? p.problem : axis.sound ? 'Reading the sound…' : 'The sound is being prepared…', w, h);
  const column = ms => (ms - p.from) / p.msPerColumn, [quarters, ms] = p.grid;
  const piece = (c0, c1, x0, x1) => {      // columns c0 to c1 of the picture between two places
    if (x1 < axis.keyW || x0 > w || x1 <= x0 || c1 <= c0) return;
    ctx.drawImage(p.sheet, c0, 0, c1 - c0, SPEC_H, x0, 0, x1 - x0, h);
  };
  const last = quarters.length - 1, before = between(p.from, ms, quarters), after = between(p.from + p.columns * p.msPerColumn, ms, quarters);
  const knots = [before, ...quarters.filter(q => q > before && q < after), after];
  for (let k = 0; k + 1 < knots.length; k++) piece(column(between(knots[k], quarters, ms)), column(between(knots[k + 1], quarters, ms)), X(knots[k]), X(knots[k + 1]));
  cv.dataset.drawn = last < 0 ? '' : p.drawn;
}
const hzAt = y => LOW_HZ * (HIGH_HZ / LOW_HZ) ** (1 - Math.min(1, Math.max(0, y / cv.clientHeight)));
