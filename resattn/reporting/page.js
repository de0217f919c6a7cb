const cells = [...document.querySelectorAll('td[role=gridcell]')];
const details = document.getElementById('details');
if (cells.length) {
  cells[0].tabIndex = 0;
  details.textContent = details.dataset.hint;
}

const show = cell => {
  cells.forEach(other => other.tabIndex = -1);
  cell.tabIndex = 0;
  details.textContent = cell.dataset.details;
};

cells.forEach(cell => {
  cell.addEventListener('focus', () => show(cell));
  cell.addEventListener('click', () => cell.focus());
});

// On a phone the cells are a list, in the order of the document.
const step = (cell, by) => {
  const row = cell.parentElement, place = [...row.children].indexOf(cell);
  if (getComputedStyle(row).display !== 'table-row') return cells[cells.indexOf(cell) + by];
  const other = by < 0 ? row.previousElementSibling : row.nextElementSibling;
  return other?.children[place];
};

document.addEventListener('keydown', event => {
  const cell = event.target.closest?.('td[role=gridcell]');
  if (!cell) return;
  const goal = {
    ArrowLeft: () => cell.previousElementSibling,
    ArrowRight: () => cell.nextElementSibling,
    ArrowUp: () => step(cell, -1),
    ArrowDown: () => step(cell, 1),
    Home: () => cell.parentElement.querySelector('td[role]'),
    End: () => [...cell.parentElement.querySelectorAll('td[role]')].at(-1),
  }[event.key]?.();
  if (goal?.matches('td[role=gridcell]')) {
    goal.focus();
    event.preventDefault();
  }
});

// Frames that scroll say so, fade at the edge, and begin at what is marked.
document.querySelectorAll('.sideways').forEach(frame => {
  const inside = frame.querySelector('.scroll');
  const mark = inside.querySelector('[data-form=wrong], [data-form=cause]');
  const update = () => {
    const rest = inside.scrollWidth - inside.clientWidth;
    const more = [];
    if (inside.scrollLeft > 1) more.push('left');
    if (inside.scrollLeft < rest - 1) more.push('right');
    frame.dataset.more = more.join(' ');
    inside.tabIndex = rest > 1 ? 0 : -1;
  };
  const begin = () => {
    if (!mark) return;
    const edge = inside.getBoundingClientRect(), at = mark.getBoundingClientRect();
    inside.scrollLeft += at.left + at.width / 2 - edge.left - edge.width / 2;
  };
  inside.addEventListener('scroll', update, { passive: true });
  new ResizeObserver(update).observe(inside);
  begin();
  update();
});
