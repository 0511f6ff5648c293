// The piano roll, part 6 of 10: takes as tabs beside the versions. A press opens the take, or the piece again, at the
// same bar, while it plays. Event raised, in quotes so that Gradio makes a listener of it: 'hop'.
const HOP_MS = 30000;         // until a request without an answer is given up
let takeTabs = [];            // [{take, doc, name, title, here}], see studio/widgets/takes/takes.py
let hopping = null;           // {key, at, quarter, playing, x, then}: the tab that was asked for
let heardTake = null;         // {take, grid, start, ms}: the preview that is heard, and where it is

const keyOf = tab => tab.take ? `take${tab.take}` : `doc${tab.doc}`;
function showTakes() {
  if (hopping && performance.now() - hopping.at > HOP_MS) hopping = null;
  const box = $('.of-takes'), here = takeTabs.find(tab => tab.here), previewed = draft && !draft.running && takeTabs.some(tab => keyOf(tab) === draft.key);
  box.hidden = !takeTabs.length;
  fillTabs(box, takeTabs.map(tab => [keyOf(tab), tab.name, tab.title]), key => hop(takeTabs.find(tab => keyOf(tab) === key)));
  markTabs(box, hopping ? hopping.key : previewed ? draft.key : here ? keyOf(here) : '', !!hopping);
  cv.dataset.takes = takeTabs.length;
}
listen('tabs', tabs => { takeTabs = tabs; showVersions(); });
listen('open-take', ({ take }) => openTake(take));
listen('preview', ({ take, ms }) => {
  if (draft && draft.grid && draft.key === `take${take}`) heardTake = { take, grid: draft.grid, start: draft.start, ms };
  else if (heardTake && heardTake.take === take) heardTake.ms = ms;
  if (ms < 0) heardTake = null;
});
function openTake(number, then) { hop(takeTabs.find(tab => tab.take === number), then); }
const quarterHeard = () => heardTake ? quarterAt(heardTake.start + heardTake.ms, heardTake.grid) : null;
function hop(tab, then) {
  if (!tab || hopping) return;
  const shown = draft && !draft.running ? draft : null, ms = shown ? shown.start + Math.max(0, shown.head) : playheadMs();
  const quarter = quarterAt(ms, (shown && shown.grid) || doc.grid), playing = !audio.paused || wantPlay || draftHead() >= 0 || !!(borrowed && borrowed.playing);
  if (!tab.here) {
    const x = X(ms) >= KEY_W && X(ms) < width() - 40 ? X(ms) : KEY_W + .1 * (width() - KEY_W);
    hopping = { key: keyOf(tab), at: performance.now(), quarter, playing, x, then };
    trigger('hop', { from: doc.id, take: tab.take, doc: tab.doc });
    setTimeout(showVersions, HOP_MS + 50);
  } else if (shown) {         // the piece under the take that is previewed
    leaveDraft(); seek(Math.max(0, msAt(quarter)));
    if (playing && soundTag) audio.play().catch(() => {});
  }
  showVersions();
}
function landed({ quarter, x }, pxPerMs) {     // the same bar at the same place on the screen, in the piece that was opened
  view.pxPerMs = pxPerMs;
  view.t0 = Math.max(0, msAt(quarter) - (x - KEY_W) / pxPerMs);
}
share('tabs-wanted');
