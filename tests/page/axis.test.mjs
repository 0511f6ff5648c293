// Tests of studio/widgets/axis.js, run by tests/page/test_axis.py.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

const source = readFileSync(new URL('../../studio/widgets/axis.js', import.meta.url), 'utf8');
const { between, barIndex, zoomed, fadeGains, barsOfSpan } =
  new Function(`${source}; return { between, barIndex, zoomed, fadeGains, barsOfSpan };`)();

const GRID = [[0, 1, 2, 4], [0, 500, 1100, 2000]];      // quarters, milliseconds
const BARS = [[-1, 0], [0, 1], [4, 2], [8, 3]];          // a pickup, then bars of four quarters

test('between interpolates, meets the points, and goes on beyond the ends', () => {
  assert.equal(between(0.5, ...GRID), 250);
  assert.equal(between(2, ...GRID), 1100);
  assert.equal(between(3, ...GRID), 1550);
  assert.equal(between(5, ...GRID), 2450);
  assert.equal(between(-1, ...GRID), -500);
});
test('between is its own inverse with the axes exchanged', () => {
  for (const q of [-0.5, 0, 0.3, 1.7, 3.9, 6]) assert.ok(Math.abs(between(between(q, ...GRID), GRID[1], GRID[0]) - q) < 1e-9);
});
test('a bar begins with its barline, and the pickup is the first', () => {
  assert.deepEqual([-2, -0.5, 0, 3.999, 4, 100].map(q => barIndex(q, BARS)), [0, 0, 1, 1, 2, 3]);
  assert.equal(barIndex(1, []), 0);
});
test('zooming keeps the time under the pointer and stays within its limits', () => {
  const view = { t0: 1000, pxPerMs: 0.1 }, time = v => (346 - 46) / v.pxPerMs + v.t0;
  for (const factor of [1.3, 1 / 1.3, 100, 0.001]) {
    const next = zoomed(view, factor, 346, 46, 0.02, 1.5);
    assert.ok(Math.abs(time(next) - 4000) < 1e-6);
    assert.ok(next.pxPerMs >= 0.02 && next.pxPerMs <= 1.5);
  }
});
test('a cross-fade has equal power and its two ends', () => {
  assert.deepEqual(fadeGains(0), [0, 1]);
  for (const share of [0.1, 0.5, 0.8]) { const [a, b] = fadeGains(share); assert.ok(Math.abs(a * a + b * b - 1) < 1e-12); }
  const [a, b] = fadeGains(2);
  assert.ok(a === 1 && Math.abs(b) < 1e-12);
});
test('a selection covers the bars that it touches', () => {
  assert.deepEqual(barsOfSpan(0, 4, BARS), [1, 1]);
  assert.deepEqual(barsOfSpan(0.5, 4.5, BARS), [1, 2]);
  assert.deepEqual(barsOfSpan(4, 4, BARS), [2, 2]);
});
