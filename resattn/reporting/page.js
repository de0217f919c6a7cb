const cells = [...document.querySelectorAll('td[role=gridcell]')];
const details = document.getElementById('details');
if (cells.length) cells[0].tabIndex = 0;

const show = cell => {
  cells.forEach(other => other.tabIndex = -1);
  cell.tabIndex = 0;
  details.textContent = cell.dataset.details;
};

cells.forEach(cell => {
  cell.addEventListener('focus', () => show(cell));
  cell.addEventListener('click', () => cell.focus());
});

document.addEventListener('keydown', event => {
  const cell = event.target.closest?.('td[role=gridcell]');
  if (!cell) return;
  const row = cell.parentElement, place = [...row.children].indexOf(cell);
  const goal = {
    ArrowLeft: cell.previousElementSibling,
    ArrowRight: cell.nextElementSibling,
    ArrowUp: row.previousElementSibling?.children[place],
    ArrowDown: row.nextElementSibling?.children[place],
    Home: row.querySelector('td[role]'),
    End: row.lastElementChild,
  }[event.key];
  if (goal?.matches('td[role=gridcell]')) {
    goal.focus();
    event.preventDefault();
  }
});
