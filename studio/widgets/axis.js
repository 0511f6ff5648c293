// Pure helpers of time and geometry, shared by the roll and the lens; tests/page/axis.test.mjs tests them.
// A place between known points: ys at x, straight between the points of xs (ascending), and beyond them.
function between(x, xs, ys) {
  let lo = 0, hi = xs.length - 2;
  while (lo < hi) { const mid = (lo + hi + 1) >> 1; if (xs[mid] <= x) lo = mid; else hi = mid - 1; }
  return ys[lo] + (x - xs[lo]) * (ys[lo + 1] - ys[lo]) / (xs[lo + 1] - xs[lo]);
}
// The index of the bar that a quarter lies in; bars: [[onset in quarters, number, ...], ...]; 0 before the first.
function barIndex(quarter, bars) {
  let k = 0;
  for (let i = 0; i < bars.length && bars[i][0] <= quarter + 1e-6; i++) k = i;
  return k;
}
// A view of time after zooming by a factor about a pixel, which keeps its time. view: {t0 ms, pxPerMs}.
function zoomed(view, factor, x, left, least, most) {
  const t = (x - left) / view.pxPerMs + view.t0, pxPerMs = Math.min(most, Math.max(Math.min(least, most), view.pxPerMs * factor));
  return { pxPerMs, t0: t - (x - left) / pxPerMs };
}
// Volumes of the new and the old sound at a share 0..1 of a cross-fade of equal power.
const fadeGains = share => { const k = Math.min(1, Math.max(0, share)); return [Math.sin(k * Math.PI / 2), Math.cos(k * Math.PI / 2)]; };
// The first and last bar of a span of quarters, as indices: every bar that the span touches by more than an instant.
function barsOfSpan(from, to, bars) {
  const first = barIndex(from, bars), last = barIndex(Math.max(from, to - 1e-3), bars);
  return [first, Math.max(first, last)];
}
