// A sound's spectrum as a column of colours, for the player of renders and the lens.
const SAMPLED_HZ = 48000;        // every sound on the page is decoded to this rate
const SPEC_H = 132, FFT = 2048, LOW_HZ = 55, HIGH_HZ = 15000, FLOOR_DB = -88, TOP_DB = -22;
const LIGHT = [[255, 255, 255], [244, 222, 211], [221, 122, 91], [147, 56, 37], [31, 18, 12]];
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
  const bin = hz => hz / SAMPLED_HZ * FFT;
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
function paintSpectrum(ctx, column, top, data, centre, n, ink) {
  const db = spectrum(data, centre, n), strip = ctx.createImageData(1, SPEC_H);
  for (let r = 0; r < SPEC_H; r++) {
    let best = -200;
    for (let bin = rows[r][0]; bin <= rows[r][1]; bin++) best = Math.max(best, db[bin]);
    const colour = ink[Math.max(0, Math.min(255, (best - FLOOR_DB) / (TOP_DB - FLOOR_DB) * 255 | 0))];
    strip.data.set([...colour, 255], 4 * r);
  }
  ctx.putImageData(strip, column, top);
}
const shareOfHz = hz => 1 - Math.log(hz / LOW_HZ) / Math.log(HIGH_HZ / LOW_HZ);      // 0 at the top, 1 at the bottom
