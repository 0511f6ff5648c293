// The player, part 2 of 4: waveform and spectrogram, drawn as the sound comes.
const canvas = $('.picture canvas'), pen = canvas.getContext('2d');
const WAVE_GAIN = 2.2, WAVE_H = 40;

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
    paintSpectrum(ctx, column, WAVE_H, s.data, (a + b) >> 1, s.n, ink);
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
    label(name, 5, WAVE_H + SPEC_H * shareOfHz(hz), 'left');
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
