// What happens in the browser alone: a citation leads to its sentence, files may be dropped
// anywhere, an answer is copied. All else is the server's; `trigger` tells it.
const find = (selector) => document.querySelector(selector);
const page = element.closest('main').firstElementChild; // Gradio lets page.css reach what is in main
const pane = () => find('#source .source');
let from = null;   // the link that opened the source: Escape leads back to it
let wanted = null; // the mark to show once the source is there
let seen = '';
const told = new Map();    // "Why this passage?" of which turns is open, by their keys
const mending = new Map(); // and in which one is asked what would be right
let focus = {};            // what had the focus last, and where

// The labels of the document's marks in their order in it, and what they are called.
const steps = () => pane()?.querySelector('.steps');
const labels = () => steps()?.dataset.labels.split(' ') ?? [];

// Make the numbers that lead to the active mark strong, too.
function point() {
  const {key, active} = pane()?.dataset ?? {};
  document.querySelectorAll('#talk .now').forEach((link) => link.classList.remove('now'));
  if (!active) return;
  document.querySelectorAll(`#talk [data-key="${key}"] [data-mark="${active}"]`)
    .forEach((link) => link.classList.add('now'));
}

// Make one mark of the source pane the active one; false if it is not there.
function activate(key, label, focus) {
  const source = pane();
  if (!source || source.dataset.key !== key) return false;
  const pieces = [...source.querySelectorAll('mark')].filter((m) => m.dataset.m.split(' ').includes(label));
  if (!pieces.length) return false;
  source.querySelectorAll('mark.now').forEach((mark) => mark.classList.remove('now'));
  pieces.forEach((mark) => mark.classList.add('now'));
  source.dataset.active = label;
  point();
  const place = labels().indexOf(label);
  if (place >= 0) {
    steps().querySelector('b').textContent = place + 1;
    steps().querySelector('span span').textContent = steps().dataset.names.split('|')[place];
  }
  const text = source.querySelector('.page-text');
  // Not scrollIntoView: that would move the page too.
  text.scrollTop += pieces[0].getBoundingClientRect().top - text.getBoundingClientRect().top
    - text.clientHeight / 3;
  if (focus) pieces[0].focus({preventScroll: true});
  return true;
}

// Show a mark, from the server if it is of another answer, document or part of it.
function show(key, label, focus) {
  wanted = null;
  if (activate(key, label, focus)) return;
  wanted = {key, label, focus};
  trigger('open_source', {key, label});
}

// On a phone the source is a sheet over the conversation, which cannot be reached meanwhile.
const phone = matchMedia('(max-width: 800px)');
function cover() {
  find('.desk > .column').inert = phone.matches && page.classList.contains('reading');
}
phone.addEventListener('change', cover);

function open(key, label) {
  page.classList.add('reading', 'untipped'); // the quote would cover what is to be clicked next
  cover();
  show(key, label, true);
}

function close() {
  page.classList.remove('reading');
  cover();
  from?.focus();
}

function copy(button) {
  const done = () => { button.textContent = button.dataset.copied; };
  const fallback = () => {
    const area = document.createElement('textarea');
    area.value = button.dataset.copy;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    button.focus();
    done();
  };
  navigator.clipboard ? navigator.clipboard.writeText(button.dataset.copy).then(done, fallback) : fallback();
}

function rate(button) {
  const turn = button.closest('.turn');
  const mend = turn.querySelector('.mend');
  const pressed = button.getAttribute('aria-pressed') === 'true';
  if (button.dataset.rate === 'wrong' && !pressed) {
    mending.set(turn.dataset.key, mend.hidden);
    restore(turn);
    if (!mend.hidden) {
      const chosen = String(getSelection());
      const input = mend.querySelector('input');
      if (chosen && pane()?.contains(getSelection().anchorNode)) input.value = chosen;
      input.focus();
    }
    return;
  }
  const words = mend.querySelector('input').value;
  mending.delete(turn.dataset.key);
  trigger('rate_answer', {key: turn.dataset.key, verdict: pressed ? 'back' : button.dataset.rate, words});
}

// What is drawn anew comes as the server knows it: what the visitor opened is opened again.
function restore(turn) {
  const {key} = turn.dataset;
  const why = turn.querySelector('.why');
  if (why) why.open = told.get(key) ?? false;
  const mend = turn.querySelector('.mend');
  if (!mend) return;
  if (mending.has(key)) mend.hidden = !mending.get(key);
  turn.querySelector('[data-rate="wrong"]').setAttribute('aria-expanded', String(!mend.hidden));
}

document.addEventListener('toggle', ({target}) => {
  const turn = target.closest('#talk .turn');
  if (turn && target.matches('.why')) told.set(turn.dataset.key, target.open);
}, true);

document.addEventListener('focusin', ({target}) => {
  const where = target.closest('#talk, #documents')?.id;
  focus = {target, where, key: target.closest('.turn')?.dataset.key};
});

// Whoever had the focus on what is gone or hidden does not begin at the page's top again.
function refocus(where, ...places) {
  if (focus.where !== where || focus.target.checkVisibility()) return;
  const {activeElement, body} = document;
  if (activeElement !== body && activeElement.checkVisibility()) return;
  find(places.find((place) => find(place)))?.focus({preventScroll: true});
}

document.addEventListener('click', (event) => {
  const on = (selector) => event.target.closest(selector);
  const link = on('#talk a[data-mark], #trial a[data-mark]');
  const step = on('#source [data-step]');
  const shown = pane();
  let button;
  if (link) {
    event.preventDefault();
    from = link;
    if (on('#trial')) find('#page-ask-button')?.click();
    open(link.closest('[data-key]').dataset.key, link.dataset.mark);
  } else if (step) {
    const all = labels();
    const now = all.indexOf(shown.dataset.active) + Number(step.dataset.step);
    show(shown.dataset.key, all[(now + all.length) % all.length], false);
  } else if ((button = on('#source .cited-from'))) {
    show(shown.dataset.key, button.dataset.mark, true);
  } else if ((button = on('#source .parts button'))) {
    trigger('open_source', {key: shown.dataset.key, document: shown.dataset.document, part: button.dataset.part});
  } else if (on('#source .back')) {
    find('#page-evaluate-button')?.click();
    setTimeout(close); // once that page is there
  } else if (on('#source .close')) {
    close();
  } else if ((button = on('#talk .example'))) {
    trigger('ask_example', {question: button.textContent});
  } else if ((button = on('#documents .read'))) {
    page.classList.add('reading');
    cover();
    from = button;
    trigger('open_source', {document: button.dataset.document});
    find('#page-ask-button')?.click();
    setTimeout(() => find('#source .page-text')?.focus(), 300);
  } else if ((button = on('#documents .remove'))) {
    if (button.textContent === button.dataset.sure)
      trigger('remove_document', {document: button.dataset.document});
    else {
      button.textContent = button.dataset.sure;
      button.removeAttribute('aria-label');
    }
  } else if ((button = on('.status [data-leave-out]'))) {
    trigger('leave_out', {file: button.dataset.leaveOut});
    button.remove();
  } else if ((button = on('.status [data-dismiss]'))) {
    trigger('dismiss', {place: button.dataset.dismiss});
    button.remove();
  } else if ((button = on('#talk .copy'))) {
    copy(button);
  } else if ((button = on('#talk [data-rate]'))) {
    rate(button);
  }
});

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') {
    if (pane()?.contains(document.activeElement)) close();
    page.classList.add('untipped');
  } else if (event.key === 'Enter' && event.target.closest?.('.mend input')) {
    event.target.closest('.mend').querySelector('[data-rate="words"]').click();
  }
});
// A quote opens below its number, or above it where there is more room.
function tip(marker) {
  const box = marker.nextElementSibling;
  if (!box?.matches('.tip')) return;
  page.classList.remove('untipped');
  const at = marker.getBoundingClientRect();
  const text = marker.closest('.text').getBoundingClientRect();
  const talk = marker.closest('.talk').getBoundingClientRect();
  const above = at.top - talk.top;
  const below = talk.bottom - at.bottom;
  const up = above > below && below < 200;
  box.style.top = up ? 'auto' : `${at.bottom - text.top}px`;
  box.style.bottom = up ? `${text.bottom - at.top}px` : 'auto';
  box.style.maxHeight = `${Math.min(192, (up ? above : below) - 8)}px`;
}
for (const kind of ['pointermove', 'focusin'])
  document.addEventListener(kind, (event) => {
    const marker = event.target.closest?.('#talk .marker');
    if (marker) tip(marker);
  });

// The source has been drawn anew: show what was asked for, or what the server says is active.
document.addEventListener('beleg:source', () => {
  const source = pane();
  if (!source) return;
  if (wanted && activate(wanted.key, wanted.label, wanted.focus)) wanted = null;
  else if (source.dataset.active) activate(source.dataset.key, source.dataset.active, false);
});

// What is open stays open in another language.
document.addEventListener('beleg:language', () => {
  const {key, active, document: name, part} = pane()?.dataset ?? {};
  if (!pane()?.lang || pane().lang === document.documentElement.lang) return;
  wanted = active ? {key, label: active, focus: false} : null;
  trigger('open_source', {key, label: active, document: name, part});
});

document.addEventListener('beleg:documents', () => {
  refocus('documents', '#documents li:last-child .remove', '#documents h2');
});

// A new turn is read from its beginning, which stays in place while the answer grows, unless the
// reader has moved; the answer is told to screen readers once it is whole.
let following = false;

// A question that has been taken leaves its box, but not what has been typed there since.
function empty(question) {
  const box = find('#question textarea');
  const words = (text) => text.replace(/[^\p{L}\p{N}]+/gu, ' ').trim();
  if (!box || words(box.value) !== words(question)) return;
  box.value = '';
  box.dispatchEvent(new Event('input', {bubbles: true}));
}

for (const kind of ['wheel', 'touchmove', 'pointerdown', 'keydown'])
  element.addEventListener(kind, () => { following = false; }, {passive: true});
watch('value', () => {
  const turns = element.querySelectorAll('.turn');
  const last = turns[turns.length - 1];
  if (!last) return;
  if (last.dataset.key !== seen) {
    seen = last.dataset.key;
    following = true;
    empty(last.querySelector('.question').textContent);
  }
  turns.forEach(restore); // first: what is opened moves what is below it
  if (following) {
    const talk = last.parentElement;
    talk.scrollTop = last.offsetTop - talk.offsetTop - 8;
    following = !('done' in last.dataset || last.querySelector(':scope > .error'));
  }
  point();
  const turn = `#talk .turn[data-key="${focus.key}"]`;
  const same = `${turn} .rate [data-rate="${focus.target?.dataset.rate}"]`;
  refocus('talk', `${turn} .mend:not([hidden]) input`, same, `${turn} [aria-pressed=true]`, `${turn} .copy`,
    '#talk .talk');
  const live = find('#live span');
  if (live && last.dataset.say && live.dataset.key !== seen) {
    live.dataset.key = seen;
    live.textContent = last.dataset.say;
  }
});

// The desk fills the window under the head, however many lines that has.
const fit = () => {
  const top = find('.desk')?.getBoundingClientRect().top;
  if (top) page.style.setProperty('--top', `${Math.ceil(top + scrollY)}px`);
};
new ResizeObserver(fit).observe(find('#masthead') ?? document.body);
addEventListener('resize', fit);
requestAnimationFrame(fit);

// What is no document, or too large for one, is refused before it is sent; the others go on.
const filled = (text, ...values) => text.split('{}').reduce((done, part, n) => done + values[n - 1] + part);
let passing = false;

function refuse(problems, close) {
  find('.not-sent')?.remove();
  if (!problems.length) return;
  const box = document.createElement('div');
  box.className = 'not-sent';
  box.setAttribute('role', 'alert');
  for (const problem of problems) {
    const line = document.createElement('p');
    line.textContent = problem;
    box.append(line);
  }
  const button = document.createElement('button');
  button.textContent = '×';
  button.setAttribute('aria-label', close);
  button.addEventListener('click', () => box.remove());
  box.append(button);
  page.append(box);
}

document.addEventListener('change', (event) => {
  const input = event.target;
  if (passing || !input.matches('input[type=file]') || !input.files.length) return;
  const {bytes, large, kind, close} = find('#upload-limits').dataset;
  const kinds = input.accept.split(',').map((name) => name.trim());
  const good = new DataTransfer();
  const problems = [];
  for (const file of input.files) {
    if (!kinds.some((name) => file.name.toLowerCase().endsWith(name)))
      problems.push(filled(kind, file.name, kinds.join(', ')));
    else if (file.size > bytes) problems.push(filled(large, file.name));
    else good.items.add(file);
  }
  refuse(problems, close);
  if (!problems.length) return;
  event.stopImmediatePropagation();
  if (!good.files.length) {
    input.value = '';
    return;
  }
  input.files = good.files;
  passing = true;
  input.dispatchEvent(new Event('change', {bubbles: true}));
  passing = false;
}, true);

// Files dropped anywhere go where the button puts them.
let depth = 0;
const files = (event) => event.dataTransfer?.types?.includes('Files');
const dragged = (change) => {
  depth = change ? depth + change : 0;
  page.dataset.drop = find('#drop-text')?.textContent ?? '';
  page.classList.toggle('dragging', depth > 0);
};
document.addEventListener('dragenter', (event) => { if (files(event)) dragged(1); });
document.addEventListener('dragleave', (event) => { if (files(event)) dragged(-1); });
document.addEventListener('dragover', (event) => { if (files(event)) event.preventDefault(); });
document.addEventListener('drop', (event) => {
  if (!files(event)) return;
  dragged(0);
  if (event.defaultPrevented) return;
  event.preventDefault();
  const input = find('.ask input[type=file]');
  if (!input) return;
  input.files = event.dataTransfer.files;
  input.dispatchEvent(new Event('change', {bubbles: true}));
});
