// The lens, part 2 of 3: the path of a performance, loudness over tempo with a point for each beat. The bars that the
// roll shows are drawn strongly, and a dot follows the playhead.
const SMOOTH_BEATS = 2, PATH_FOOT = 16;

function smoothed(line, at, reach) {      // the mean of a line's values around each place; null where there is none
  return at.map(q => {
    let sum = 0, weight = 0;
    for (let k = 0; k < line.q.length; k++) {
      const near = 1 - Math.abs(line.q[k] - q) / reach;
      if (near > 0) { sum += near * line.y[k]; weight += near; }
    }
    return weight ? sum / weight : null;
  });
}
let paths = { of: null, list: [] };       // [{who, colour, dash, q, x, y}]
function pathsOf() {
  if (paths.of === data) return paths.list;
  const find = name => data.lenses.find(l => l.name === name), tempo = find('tempo'), loud = find('velocity'), list = [];
  for (const line of tempo ? tempo.lines : []) {
    const own = line.who === 'pianist', dots = loud.lines.filter(l => own ? l.dots && l.who !== 'human' : l.who === line.who);
    const all = { q: dots.flatMap(l => l.q), y: dots.flatMap(l => l.y) }, step = line.q.length > 1 ? (line.q[line.q.length - 1] - line.q[0]) / (line.q.length - 1) : 1;
    const x = smoothed(line, line.q, SMOOTH_BEATS * step), y = smoothed(all, line.q, SMOOTH_BEATS * step), keep = line.q.map((_, k) => x[k] !== null && y[k] !== null);
    list.push({ line, q: line.q.filter((_, k) => keep[k]), x: x.filter((_, k) => keep[k]), y: y.filter((_, k) => keep[k]) });
  }
  paths = { of: data, list };
  return list;
}
function pathScale(w, h) {
  const list = pathsOf().filter(p => p.q.length), xs = list.flatMap(p => p.x), ys = list.flatMap(p => p.y);
  const range = (values, least) => { const a = Math.min(...values), b = Math.max(...values), room = Math.max((b - a) * .06, (least - (b - a)) / 2); return [a - room, b + room]; };
  const [x0, x1] = range(xs, 10), [y0, y1] = range(ys, 12), left = axis.keyW + 8;
  return { list, x0, x1, y0, y1, px: x => left + (x - x0) / (x1 - x0) * (w - left - 12), py: y => h - PATH_FOOT - 4 - (y - y0) / (y1 - y0) * (h - PATH_FOOT - 12) };
}
function ticksOf(low, high) {
  const step = [1, 2, 5, 10, 20, 50].find(s => (high - low) / s <= 6) || 100, list = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) list.push(v);
  return list;
}
function drawPath(w, h) {
  const s = pathScale(w, h);
  if (!s.list.length) return say('The path needs two beats', w, h);
  const from = quarterAt(axis.keyW), to = quarterAt(w), head = between(axis.head, axis.grid[1], axis.grid[0]);
  ctx.font = '10px system-ui, sans-serif'; ctx.textBaseline = 'middle';
  for (const v of ticksOf(s.x0, s.x1)) {
    ctx.fillStyle = ink.line; ctx.fillRect(s.px(v), 0, 1, h - PATH_FOOT); ctx.fillStyle = ink.faint; ctx.textAlign = 'center'; ctx.fillText(v, s.px(v), h - PATH_FOOT / 2);
  }
  let points = 0;
  for (const path of s.list) {
    ctx.strokeStyle = ctx.fillStyle = colourOf(path.line); ctx.lineJoin = 'round'; ctx.setLineDash(dashOf(path.line));
    for (const strong of [false, true]) {
      ctx.globalAlpha = strong ? 1 : .22; ctx.lineWidth = strong ? 2 : 1; ctx.beginPath();
      let begun = false;
      for (let k = 0; k < path.q.length; k++) {
        if (strong && (path.q[k] < from || path.q[k] > to)) { begun = false; continue; }
        if (begun) ctx.lineTo(s.px(path.x[k]), s.py(path.y[k])); else ctx.moveTo(s.px(path.x[k]), s.py(path.y[k]));
        begun = true; points += 1;
      }
      ctx.stroke();
    }
    ctx.setLineDash([]);
    const place = q => [s.px(between(q, path.q, path.x)), s.py(between(q, path.q, path.y))];
    if (path.q.length < 2) continue;
    ctx.textAlign = 'left';
    let free = -1;
    for (const [quarter, number] of axis.bars) {
      if (quarter < from || quarter > to || quarter < path.q[0] || quarter > path.q[path.q.length - 1]) continue;
      const [x, y] = place(quarter);
      ctx.beginPath(); ctx.arc(x, y, 2.2, 0, 7); ctx.fill();
      if (path.line.who === 'pianist' && Math.abs(x - free) > 16) { ctx.fillText(number, x + 4, y - 7); free = x; }
    }
    const [x, y] = place(Math.min(path.q[path.q.length - 1], Math.max(path.q[0], head)));
    ctx.beginPath(); ctx.arc(x, y, 5, 0, 7); ctx.fill();
    if (path.line.who === 'pianist') { ctx.strokeStyle = ink.head; ctx.lineWidth = 2; ctx.stroke(); }
  }
  cv.dataset.drawn = points;
  return s;
}
function pathAt(x, y) {       // the beat of the present performance nearest to a place: [quarter, tempo, velocity]
  const s = pathScale(cv.clientWidth, cv.clientHeight), path = s.list.find(p => p.line.who === 'pianist');
  let best = null, least = 40 ** 2;
  for (let k = 0; path && k < path.q.length; k++) {
    const d = (s.px(path.x[k]) - x) ** 2 + (s.py(path.y[k]) - y) ** 2;
    if (d < least) { least = d; best = [path.q[k], path.x[k], path.y[k]]; }
  }
  return best;
}
