// Draws the page again now and then, and reads values off charts under the pointer or the arrow keys.
// Pages are whole without it. It loads nothing but the page it is on.
'use strict';

const main = document.getElementById('main');
const live = document.getElementById('live');
const spoken = document.getElementById('spoken');

// ---- drawing again

function isBusy() {
  const focused = document.activeElement;
  const isTyping = main.contains(focused) && focused.matches('input, select, textarea');
  const selection = window.getSelection();
  const isSelecting = !selection.isCollapsed && main.contains(selection.anchorNode);
  return document.hidden || isTyping || isSelecting || main.querySelector('.chart.read') !== null;
}

// How to find the focused element in a fresh page.
function placeOf(element) {
  if (element === main || !main.contains(element)) return null;
  if (element.id) return '#' + CSS.escape(element.id);
  const href = element.getAttribute('href');
  return href ? `a[href="${CSS.escape(href)}"]` : null;
}

async function drawAgain() {
  if (isBusy() || live.getAttribute('aria-pressed') !== 'true') return;
  try {
    const answer = await fetch(location.href, { signal: AbortSignal.timeout(20000) });
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = page.getElementById('main');
    if (!fresh || isBusy()) return;
    const place = placeOf(document.activeElement);
    main.replaceChildren(...fresh.childNodes);
    if (place) main.querySelector(place)?.focus({ preventScroll: true });
    live.textContent = 'Live';
    live.classList.remove('lost');
  } catch {
    // The broker may be restarting: what is shown is old, and says when it was seen.
    live.textContent = 'No answer';
    live.classList.add('lost');
  }
}

async function keepDrawing(everyMs) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, everyMs));
    await drawAgain();
  }
}

if (live) {
  live.hidden = false;
  live.addEventListener('click', () => {
    const isOn = live.getAttribute('aria-pressed') !== 'true';
    live.setAttribute('aria-pressed', String(isOn));
    live.textContent = isOn ? 'Live' : 'Paused';
    drawAgain();
  });
  keepDrawing(Number(main.dataset.refresh) * 1000);
}

// ---- reading charts

function chartOf(event) {
  return event.target instanceof Element ? event.target.closest('.chart') : null;
}

// Shows sample `i` of a chart, or with null what is newest.
function read(chart, i) {
  const times = chart.dataset.times.split('|');
  const [left, right, slots] = chart.dataset.plot.split(' ').map(Number);
  const isReading = i !== null && chart.dataset.times !== '';
  const at = isReading ? Math.max(0, Math.min(times.length - 1, i)) : times.length - 1;
  chart.classList.toggle('read', isReading);
  chart.dataset.at = isReading ? at : '';
  const cursor = chart.querySelector('.cursor');
  const x = right - ((times.length - 1 - at) / slots) * (right - left);
  cursor.setAttribute('x1', x);
  cursor.setAttribute('x2', x);
  cursor.setAttribute('visibility', isReading ? 'visible' : 'hidden');
  const said = [];
  for (const value of chart.querySelectorAll('[data-values]')) {
    value.textContent = value.dataset.values.split('|')[at] || 'none';
    said.push(`${value.dataset.name} ${value.textContent}`);
  }
  const when = isReading ? `${times[at]} UTC` : 'now';
  chart.querySelector('.when').textContent = when;
  return `${when}: ${said.join(', ')}`;
}

main.addEventListener('pointermove', (event) => {
  const chart = chartOf(event);
  const svg = chart && event.target.closest('svg');
  if (!svg) return;
  const box = svg.getBoundingClientRect();
  const [left, right, slots] = chart.dataset.plot.split(' ').map(Number);
  const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
  const age = Math.round(((right - x) / (right - left)) * slots);
  read(chart, chart.dataset.times.split('|').length - 1 - age);
});

for (const leaving of ['pointerout', 'focusout']) {
  main.addEventListener(leaving, (event) => {
    const chart = chartOf(event);
    if (chart && !chart.contains(event.relatedTarget)) read(chart, null);
  });
}

main.addEventListener('keydown', (event) => {
  const chart = chartOf(event);
  if (!chart) return;
  const last = chart.dataset.times.split('|').length - 1;
  const at = chart.dataset.at ? Number(chart.dataset.at) : last;
  const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: last, Escape: null };
  if (!(event.key in moves)) return;
  event.preventDefault();
  spoken.textContent = read(chart, moves[event.key]);
});
