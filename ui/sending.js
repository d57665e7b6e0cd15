// While files are on their way it is said, and a question waits for them: what is sent first is
// read first. How far the reading is, the server says.
const send = window.fetch;
let sending = 0;
let asked = false;

const find = (selector) => document.querySelector(selector);
const say = () => {
  const words = JSON.parse(element.firstElementChild.dataset.words);
  const [alone, first] = words[document.documentElement.lang] ?? words.en;
  element.firstElementChild.textContent = !sending ? '' : asked ? first : alone;
  if (sending || !asked) return;
  asked = false;
  find('#button-ask').click();
};
const arrived = () => { sending -= 1; say(); };

window.fetch = async (...given) => {
  if (!/\/upload(\?|$)/.test(given[0]?.url ?? given[0])) return send(...given);
  sending += 1;
  say();
  try {
    return await send(...given);
  } finally {
    setTimeout(arrived, 500); // in between Gradio tells the server what has come
  }
};

const hold = (event) => {
  if (!sending) return;
  event.preventDefault();
  event.stopPropagation();
  asked = true;
  say();
};
document.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey && event.target.closest?.('#question')) hold(event);
}, true);
document.addEventListener('click', (event) => {
  if (event.target.closest?.('#button-ask')) hold(event);
}, true);

// What becomes of files is told where questions and documents are.
document.addEventListener('drop', (event) => {
  const other = '#page-evaluate-button, #page-settings-button';
  if (event.dataTransfer?.types.includes('Files') && find(`:is(${other})[aria-selected=true]`))
    find('#page-ask-button').click();
}, true);
