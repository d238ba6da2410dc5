// One step in all charts: the pointer's step gets a line in each, and each heading reads its values there.
const plots = () => [...element.querySelectorAll('.live-plot')]

function made(parent, kind, name) {
  const found = parent.querySelector('.' + name)
  if (found) return found
  const child = parent.appendChild(document.createElement(kind))
  child.className = name
  child.setAttribute('aria-hidden', 'true')
  return child
}

function valueNear(line, step) {
  const values = JSON.parse(line.dataset.values)
  return values.reduce((best, value) => Math.abs(value[0] - step) < Math.abs(best[0] - step) ? value : best)[1]
}

function readAt(step) {
  for (const plot of plots()) {
    const lines = step === null ? [] : [...plot.querySelectorAll('.line')]
    const told = lines.map(line => `${line.dataset.name} ${valueNear(line, step)}`)
    made(plot, 'i', 'cross').style.left = step === null ? '-9999px' : `${100 * step / plot.dataset.last}%`
    const caption = plot.closest('figure').querySelector('figcaption')
    made(caption, 'span', 'readout').textContent = told.length ? `step ${step}: ${told.join(' · ')}` : ''
  }
}

element.addEventListener('pointermove', event => {
  const plot = event.target.closest('.live-plot')
  if (!plot) return readAt(null)
  const box = plot.getBoundingClientRect()
  const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))
  readAt(Math.round(share * plot.dataset.last))
})
element.addEventListener('pointerleave', () => readAt(null))
