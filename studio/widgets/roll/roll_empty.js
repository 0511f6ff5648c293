// The piano roll, part 7 of 10: what stands in its place while no piece is open. A press on a kind of piece fills in the
// Compose panel and presses Compose; the result plays by itself.
const FILLED_MS = 15000;
let composing = 0;            // when a kind was pressed, 0 when its notes come
function showEmpty() {
  const box = $('.empty');
  if (draft || doc.id) composing = 0;
  box.hidden = !arrived || !!doc.id || !!draft || (composing && performance.now() - composing < FILLED_MS);
  if (!box.hidden) Object.assign(box.style, { top: `${cv.offsetTop + 1}px`, height: `${cv.offsetHeight - 2}px` });
}
function composeKind(kind, name) {
  const field = selector => document.querySelector(`${selector} input`), end = performance.now() + FILLED_MS;
  const tab = document.querySelector('#compose-tab-button');
  if (tab && tab.getAttribute('aria-selected') !== 'true') tab.click();       // Gradio creates a panel when it is first opened
  composing = performance.now(); paint();
  say(`Composing: ${name}`);
  let pressed = false;
  const look = () => {        // the panel names the kind, then Compose is pressed
    const button = document.querySelector(`#intent-${kind}`), genre = field('#compose-genre');
    if (pressed && genre && genre.value === name && field('#compose-length').value === '32') { share('soon'); return document.querySelector('#compose').click(); }
    if (button && !pressed) { pressed = true; button.click(); }
    if (performance.now() < end) return setTimeout(look, 60);
    composing = 0; say('Not done: the server does not answer; press again.'); paint();
  };
  look();
}
for (const b of element.querySelectorAll('.empty [data-intent]')) b.onclick = () => composeKind(b.dataset.intent, b.textContent);
$('.empty .open').onclick = () => { const button = document.querySelector('#open'); if (button) button.click(); };
