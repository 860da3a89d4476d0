// Reads values and faults off the charts, under the pointer or the arrow keys. The page is whole without it.
'use strict';

const run = document.getElementById('run');
const moment = document.getElementById('moment');
const spoken = document.getElementById('spoken');
const [first, step, count] = ['first', 'step', 'count'].map((name) => Number(run.dataset[name]));
const times = run.dataset.times.split('|');
const values = [...run.querySelectorAll('[data-values]')].map((place) => [place, place.dataset.values.split('|')]);
const windows = [...run.querySelectorAll('rect[data-bins]')].map((rect) => {
  const [from, to] = rect.dataset.bins.split(' ').map(Number);
  return { from, to, says: rect.querySelector('title').textContent };
});
let at = null;

const how = 'Point at the chart, or go along it with the arrow keys, to read values and faults.';
moment.textContent = how;
moment.hidden = false;

// Shows a bin, or with null none, and says what is in it.
function read(bin) {
  at = bin === null || count === 0 ? null : Math.max(0, Math.min(count - 1, bin));
  for (const hidden of run.querySelectorAll('.cursor, .when')) hidden.hidden = at === null;
  for (const cursor of run.querySelectorAll('.cursor')) cursor.style.left = `${first + (at ?? 0) * step}%`;
  for (const [place, all] of values) {
    place.textContent = at === null ? '' : all[at] ? all[at] + place.dataset.unit : 'none';
  }
  if (at === null) {
    moment.textContent = how;
    return '';
  }
  const then = windows.filter((window) => window.from <= at && at <= window.to).map((window) => window.says);
  moment.textContent = `${times[at]}: ${then.length ? then.join(' · ') : 'no fault'}`;
  return `${moment.textContent}. ${values.map(([place]) => place.parentElement.textContent.trim()).join(', ')}`;
}

run.addEventListener('pointermove', (event) => {
  const track = event.target instanceof Element ? event.target.closest('.track') : null;
  if (!track) return;
  const box = track.getBoundingClientRect();
  read(Math.round((((event.clientX - box.left) / box.width) * 100 - first) / step));
});

for (const leaving of ['pointerleave', 'blur']) run.addEventListener(leaving, () => read(null));

run.addEventListener('keydown', (event) => {
  const from = at ?? -1;
  const moves = { ArrowLeft: from - 1, ArrowRight: from + 1, PageUp: from - 10, PageDown: from + 10, Home: 0, End: count - 1, Escape: null };
  if (!(event.key in moves)) return;
  event.preventDefault();
  spoken.textContent = read(moves[event.key]);
});
