// Performances compared, part 2 of 3: the blind study. Python alone knows what is behind A and B.
let study = null, ranked = '', listened = new Set();

function receiveStudy(next) {
  const same = study && next && study.number === next.number && study.at === next.at;
  if (same) return;
  if (live) hush();
  if (!next && study) for (const key of [...sounds.keys()]) if (key.startsWith('study')) sounds.delete(key);
  study = next; ranked = ''; listened = new Set();
  if (study) document.body.dataset.study = 'blind'; else delete document.body.dataset.study;
  $('.compare').classList.toggle('studying', !!study);
  looped = passageOf(study ? [study.from, study.to] : passage);
  if (study) { heard = ''; quarter = study.from; $('.result').hidden = true; release(); for (const [, id] of study.heard) want(id); setTimeout(() => { const first = $('.heard button'); if (study && first) first.focus(); }, 60); }
  else heard = state.entries.length ? state.entries[0].sound : '';
  buildStudy();
}
function buildStudy() {
  $('.study').hidden = !study;
  if (!study) return;
  const part = study.bars ? `, bars ${study.bars}` : '';
  $('.ask').textContent = `${study.at + 1} of ${study.of}${part}. ${study.ask}${study.ask.endsWith('?') ? '' : ', best first.'} Switch as often as you like; the passage repeats.`;
  $('.heard').replaceChildren(...study.heard.map(([letter, id]) => button(letter, `Hear ${letter}`, () => hearIn(id), { id })));
  const answers = study.question === 'human' ? [1, 2, 3, 4, 5, 6, 7].map(v => [String(v), `${v} of 7${v === 1 ? ', a machine' : v === 7 ? ', a human' : ''}`, { rating: v }])
    : study.question === 'rank' ? study.heard.map(([l]) => [l, `${l} is the best of those left`, { next: l }])
    : [...study.heard.map(([l]) => [l, `I prefer ${l}`, { choice: l }]), ['No preference', 'No preference', { choice: '' }]];
  $('.answers').replaceChildren(...answers.map(([text, label, answer]) => button(text, label, () => answerWith(answer), { answer: text })));
  showStudy();
}
function button(text, label, act, data) {
  const made = document.createElement('button');
  made.type = 'button'; made.textContent = text; made.title = label; made.setAttribute('aria-label', label); made.onclick = act;
  Object.assign(made.dataset, data);
  return made;
}
function hearIn(id) {
  const s = sounds.get(id), at = live ? quarterOf(sounds.get(live.key), position()) : quarter;
  heard = id;
  if (!ready(id)) { wanted = id; if (live) { quarter = at; hush(); } want(id); return show(); }
  listened.add(id);
  const [from, to] = looped(s), sample = sampleAt(s, at);
  begin(id, sample >= from && sample < Math.min(to, s.n) - RATE / 20 ? sample : Math.max(0, from));
}
function answerWith({ choice = '', rating = 0, next }) {
  if (!study) return;
  if (study.heard.some(([, id]) => !listened.has(id))) return say('Listen to every one first.', true);
  if (next) { ranked += next; if (ranked.length < study.heard.length - 1) return showStudy(); choice = ranked + study.heard.map(([l]) => l).filter(l => !ranked.includes(l)).join(''); }
  if (live) hush();
  trigger('vote', { study: study.number, trial: study.at, choice, rating });
}
function showStudy() {
  if (!study) return;
  for (const b of $('.heard').children) { b.classList.toggle('on', !!live && live.key === b.dataset.id); b.classList.toggle('coming', !ready(b.dataset.id)); }
  for (const b of $('.answers').children) b.disabled = study.question === 'rank' && ranked.includes(b.dataset.answer);
  if (ranked) say(`Best first: ${[...ranked].join(', ')}`);
  Object.assign($('.compare').dataset, { trial: study.at, listened: listened.size });
}
function showResult(rows) {
  $('.result').replaceChildren(...rows.map(([name, words]) => { const li = document.createElement('li'); li.textContent = `${name}: ${words}`; return li; }));
  $('.result').hidden = !rows.length;
}
$('.leave').onclick = () => trigger('leave', {});
$('.halt').onclick = () => trigger('leave', { job: working });
