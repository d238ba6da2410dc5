// How many texts are visible in what is selected, and those with less contrast to their ground than the least (WCAG 2).
([selector, least]) => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = colour
    canvas.fillRect(0, 0, 1, 1)
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data
    return [r, g, b, a / 255]
  }
  const over = (top, below) => [...[0, 1, 2].map(n => top[n] * top[3] + below[n] * (1 - top[3])), 1]
  const light = colour => {
    const [r, g, b] = colour.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const contrast = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((x, y) => x - y)
    return (bright + 0.05) / (dark + 0.05)
  }
  // what may lie behind the text: several colours where a pattern does
  const grounds = element => {
    if (!element) return [[255, 255, 255, 1]]
    const style = getComputedStyle(element)
    const pattern = style.backgroundImage.match(/rgba?\([^)]*\)/g)
    const own = (pattern ?? [style.backgroundColor]).map(rgba)
    if (own.every(colour => colour[3] === 1)) return own
    return grounds(element.parentElement).flatMap(below => own.map(colour => over(colour, below)))
  }
  const opacity = element => element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1
  const seen = element => element.checkVisibility({ visibilityProperty: true, opacityProperty: true }) &&
    !element.matches('[type=radio], [type=checkbox]') &&
    !element.closest('.unseen, .katex-mathml, :disabled, [aria-disabled=true], option, script, style, title')
  const texts = element => element.matches('input, textarea') ? element.value :
    [...element.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.textContent).join('')
  const found = [...document.querySelectorAll(`:is(${selector}), :is(${selector}) *`)].filter(e => texts(e).trim() && seen(e))
  const faint = found.flatMap(element => {
    const style = getComputedStyle(element)
    const ink = rgba(element.closest('svg') ? style.fill : style.color)
    ink[3] *= opacity(element)
    const worst = Math.min(...grounds(element).map(ground => contrast(over(ink, ground), ground)))
    return worst >= least ? [] : [`${worst.toFixed(2)} ${element.tagName}.${element.className} ${style.color} on ` +
      `${grounds(element).map(g => g.map(Math.round).slice(0, 3))}: ${texts(element).trim().slice(0, 40)}`]
  })
  return [found.length, [...new Set(faint)]]
}
