// Radio buttons in a grid of two columns: arrow keys, and the one that Tab reaches. Joined before a widget's own script.
function arrowKeys(e) {
  const step = { ArrowLeft: -1, ArrowUp: -2, ArrowRight: 1, ArrowDown: 2 }[e.key], all = [...e.currentTarget.parentElement.children];
  if (!step) return;
  e.preventDefault();
  const next = all[all.indexOf(e.currentTarget) + step];
  if (next) next.focus({ focusVisible: true });
}
function check(buttons, name) {           // the one of this name; Tab reaches it, or the first if none is checked
  const some = buttons.some(b => b.dataset.name === name);
  for (const [k, b] of buttons.entries()) {
    const on = b.dataset.name === name;
    b.setAttribute('aria-checked', on);
    b.tabIndex = on || (!k && !some) ? 0 : -1;
  }
}
