// Runs once when the page is ready. Gradio's sliders report a release of the mouse only: the arrow keys count too.
() => {
  const release = e => {
    if (e.target.matches && e.target.matches('input[type=range]') && /^(Arrow|Page|Home|End)/.test(e.key))
      e.target.dispatchEvent(new PointerEvent('pointerup', { bubbles: true }));
  };
  document.addEventListener('keyup', release);
  document.addEventListener('click', e => {       // a worked example ends with something to hear
    if (e.target.closest && e.target.closest('#start-fugue, #start-nocturne, #start-musicxml'))
      document.dispatchEvent(new CustomEvent('etude:soon'));
  });
}
