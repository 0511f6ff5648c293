// Tiles of reference recordings. Given by Gradio: element, trigger, props, watch. Event raised, in quotes so that Gradio
// makes a listener of it: 'choose'. A press chooses the recording and plays it; the player of renders has its sound.
const box = element.querySelector('.tiles');
const NS = 'http://www.w3.org/2000/svg';
let took = '';
function wave(peaks) {
  const svg = document.createElementNS(NS, 'svg'), path = document.createElementNS(NS, 'path');
  svg.setAttribute('viewBox', `0 0 ${peaks.length} 2`); svg.setAttribute('preserveAspectRatio', 'none'); svg.setAttribute('aria-hidden', 'true');
  path.setAttribute('d', peaks.map((p, x) => `M${x + .5} ${(1 - p).toFixed(2)}v${(2 * p).toFixed(2)}`).join(''));
  path.setAttribute('stroke', 'currentColor'); path.setAttribute('stroke-width', '.7');
  svg.append(path);
  return svg;
}
function receive(value) {
  if (!value || !value.tiles) return;
  box.replaceChildren(...JSON.parse(value.tiles).map(({ key, name, peaks }) => {
    const made = document.createElement('button'), words = document.createElement('span');
    made.type = 'button'; made.dataset.name = name; made.setAttribute('role', 'radio'); made.title = `${name}: choose and play`;
    words.className = 'name'; words.textContent = name;
    made.append(wave(peaks), words);
    made.onclick = () => { took = name; trigger('choose', { key }); mark(); };
    made.onkeydown = arrowKeys;
    return made;
  }));
  mark();
}
function mark() {                         // the menu under the tiles holds the choice
  const menu = document.querySelector('#render-prompt input');
  check([...box.children], (menu && menu.value) || took);
}
let last = null;
function viewed() {
  if (!element.isConnected) return document.removeEventListener('etude:view', viewed);
  const menu = document.querySelector('#render-prompt input'), now = menu ? menu.value : '';
  if (now !== last) { last = now; took = ''; mark(); }
}
document.addEventListener('etude:view', viewed);
const polling = setInterval(() => { if (!element.isConnected) clearInterval(polling); else if (element.offsetParent) viewed(); }, 400);
watch('value', () => receive(props.value));
receive(props.value);
