// One step in all panels: the pointer's step gets a line in each, and each heading reads its values there.
const charts = () => [...element.querySelectorAll('.panel svg')]

function nearest(marks, step) {
  return marks.reduce((best, mark) =>
    Math.abs(mark.dataset.step - step) < Math.abs(best.dataset.step - step) ? mark : best)
}

function readAt(step) {
  for (const svg of charts()) {
    const { left, right, last, unit } = svg.dataset
    const x = step === null ? -9 : Number(left) + (right - left) * step / last
    const cross = svg.querySelector('.cross')
    cross.setAttribute('x1', x)
    cross.setAttribute('x2', x)
    const lines = step === null ? [] : [...svg.querySelectorAll('.line')]
    const found = lines.map(line => nearest([...line.querySelectorAll('circle')], step))
    svg.closest('.panel').querySelector('.readout').textContent = found.length === 0 ? '' :
      `step ${step}: ` + found.map(mark => `${mark.dataset.letter} ${mark.dataset.value}${unit}`).join(' · ')
  }
}

element.addEventListener('pointermove', event => {
  const svg = event.target.closest('.panel svg')
  if (!svg) return readAt(null)
  const { left, right, width, last } = svg.dataset
  const box = svg.getBoundingClientRect()
  const x = (event.clientX - box.left) / box.width * width
  readAt(Math.round(Math.min(1, Math.max(0, (x - left) / (right - left))) * last))
})
element.addEventListener('pointerleave', () => readAt(null))
