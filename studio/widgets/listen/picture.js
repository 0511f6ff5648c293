// The player, part 2 of 4: waveform and spectrogram, drawn as the sound comes.
const canvas = $('.picture canvas'), pen = canvas.getContext('2d');
const WAVE_GAIN = 2.2, WAVE_H = 40, SPEC_H = 132, FFT = 2048, LOW_HZ = 55, HIGH_HZ = 15000, FLOOR_DB = -88, TOP_DB = -22;
const LIGHT = [[255, 255, 255], [214, 219, 250], [129, 140, 248], [79, 70, 229], [30, 20, 90]];
const DARK = [[17, 17, 20], [49, 36, 99], [126, 58, 160], [240, 120, 100], [255, 244, 200]];
const turns = Array.from({ length: FFT / 2 }, (_, i) => [Math.cos(2 * Math.PI * i / FFT), Math.sin(2 * Math.PI * i / FFT)]);
const hann = Float32Array.from({ length: FFT }, (_, i) => 0.5 - 0.5 * Math.cos(2 * Math.PI * i / FFT));
const order = new Uint16Array(FFT);
for (let i = 0; i < FFT; i++) order[i] = (order[i >> 1] >> 1) | (i & 1 ? FFT >> 1 : 0);
const re = new Float32Array(FFT), im = new Float32Array(FFT);

function spectrum(data, centre, n) {       // decibels of each bin around a sample; a full-scale sine is 0
  for (let i = 0; i < FFT; i++) {
    const at = centre - FFT / 2 + i;
    re[order[i]] = at >= 0 && at < n ? data[at] * hann[i] : 0;
  }
  im.fill(0);
  for (let size = 2; size <= FFT; size *= 2) {
    const half = size / 2, step = FFT / size;
    for (let start = 0; start < FFT; start += size) {
      for (let k = 0; k < half; k++) {
        const [c, s] = turns[k * step], a = start + k, b = a + half;
        const x = re[b] * c + im[b] * s, y = im[b] * c - re[b] * s;
        re[b] = re[a] - x; im[b] = im[a] - y; re[a] += x; im[a] += y;
      }
    }
  }
  const out = new Float32Array(FFT / 2);
  for (let i = 0; i < FFT / 2; i++) out[i] = 10 * Math.log10((re[i] * re[i] + im[i] * im[i]) / (FFT * FFT / 16) + 1e-12);
  return out;
}
const hzOfRow = row => LOW_HZ * (HIGH_HZ / LOW_HZ) ** (1 - row / SPEC_H);
const rows = Array.from({ length: SPEC_H }, (_, r) => {      // the bins that a row of the picture shows
  const bin = hz => hz / RATE * FFT;
  return [Math.max(1, Math.round(bin(hzOfRow(r + 1)))), Math.max(1, Math.round(bin(hzOfRow(r))))];
});
const isDark = () => document.body.classList.contains('dark');
function palette(stops) {
  return Array.from({ length: 256 }, (_, i) => {
    const x = i / 255 * (stops.length - 1), k = Math.min(stops.length - 2, x | 0), f = x - k;
    return stops[k].map((v, c) => Math.round(v + f * (stops[k + 1][c] - v)));
  });
}
const inks = { light: palette(LIGHT), dark: palette(DARK) };

function paintSound(s, width) {            // draw what has come since the last time; all of it when the frame differs
  const dark = isDark(), frame = `${width}.${s.total}.${dark}`;
  if (!s.picture || s.picture.frame !== frame) {
    const sheet = document.createElement('canvas');
    sheet.width = width; sheet.height = WAVE_H + SPEC_H;
    s.picture = { frame, sheet, drawn: 0 };
  }
  const p = s.picture, ctx = p.sheet.getContext('2d'), per = s.total / width, ink = dark ? inks.dark : inks.light;
  const accent = getComputedStyle(element).getPropertyValue('--color-accent') || '#4f46e5';
  const upto = s.over ? width : Math.min(width, Math.floor((s.n - FFT / 2) / per));
  for (let column = p.drawn; column < upto; column++) {
    const a = column * per | 0, b = Math.min(s.n, (column + 1) * per | 0), hop = Math.max(1, (b - a) / 400 | 0);
    let low = 0, high = 0;
    for (let i = a; i < b; i += hop) { low = Math.min(low, s.data[i]); high = Math.max(high, s.data[i]); }
    ctx.fillStyle = accent;
    ctx.fillRect(column, WAVE_H / 2 * (1 - Math.min(1, WAVE_GAIN * high)), 1, Math.max(1, WAVE_H / 2 * Math.min(2, WAVE_GAIN * (high - low))));
    const db = spectrum(s.data, (a + b) >> 1, s.n), strip = ctx.createImageData(1, SPEC_H);
    for (let r = 0; r < SPEC_H; r++) {
      let best = -200;
      for (let bin = rows[r][0]; bin <= rows[r][1]; bin++) best = Math.max(best, db[bin]);
      const colour = ink[Math.max(0, Math.min(255, (best - FLOOR_DB) / (TOP_DB - FLOOR_DB) * 255 | 0))];
      strip.data.set([...colour, 255], 4 * r);
    }
    ctx.putImageData(strip, column, WAVE_H);
  }
  p.drawn = Math.max(p.drawn, upto);
  return p.sheet;
}
function drawPicture() {
  const width = canvas.clientWidth, dpr = devicePixelRatio || 1, height = WAVE_H + SPEC_H;
  if (!width) return;
  if (canvas.width !== Math.round(width * dpr)) { canvas.width = Math.round(width * dpr); canvas.height = height * dpr; }
  pen.setTransform(dpr, 0, 0, dpr, 0, 0);
  pen.clearRect(0, 0, width, height);
  const dark = isDark(), s = sounds.get(heard);
  pen.fillStyle = dark ? 'rgb(17,17,20)' : '#fff'; pen.fillRect(0, WAVE_H, width, SPEC_H);
  pen.font = '10px system-ui, sans-serif'; pen.textBaseline = 'middle';
  if (testing || !s || !s.n) {
    pen.fillStyle = dark ? '#a1a1aa' : '#52525b'; pen.textAlign = 'center';
    pen.fillText(testing ? 'Hidden while you listen blind' : 'The sound is on its way', width / 2, WAVE_H + SPEC_H / 2);
    canvas.dataset.drawn = 0;
    return;
  }
  pen.imageSmoothingEnabled = false;
  pen.drawImage(paintSound(s, Math.min(1400, width)), 0, 0, width, height);
  const label = (text, x, y, align) => {
    pen.textAlign = align;
    pen.lineWidth = 3; pen.strokeStyle = dark ? 'rgba(0,0,0,.75)' : 'rgba(255,255,255,.85)'; pen.strokeText(text, x, y);
    pen.fillStyle = dark ? '#e4e4e7' : '#27272a'; pen.fillText(text, x, y);
  };
  for (const [hz, name] of [[100, '100 Hz'], [1000, '1 kHz'], [10000, '10 kHz']])
    label(name, 5, WAVE_H + SPEC_H * (1 - Math.log(hz / LOW_HZ) / Math.log(HIGH_HZ / LOW_HZ)), 'left');
  const seconds = s.total / RATE, step = [0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300].find(v => seconds / v <= width / 90) || 600;
  for (let t = step; t < seconds - step / 4; t += step) {
    const at = s.from / 1000 + t;
    label(`${Math.floor(at / 60)}:${(at % 60).toFixed(step < 1 ? 1 : 0).padStart(step < 1 ? 4 : 2, '0')}`, t / seconds * width, height - 7, 'center');
  }
  canvas.dataset.drawn = s.picture.drawn;
}
$('.picture').addEventListener('click', e => {
  const s = sounds.get(heard), box = canvas.getBoundingClientRect();
  if (!s || !s.n || testing) return;
  const sample = Math.min(s.n - 1, (e.clientX - box.left) / box.width * s.total);
  if (s.grid) goTo(quarterOf(s, sample)); else begin(heard, sample);
});
new ResizeObserver(() => drawPicture()).observe(canvas);
new MutationObserver(() => drawPicture()).observe(document.body, { attributes: true, attributeFilter: ['class'] });
