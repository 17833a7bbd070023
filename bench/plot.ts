/** Lines in panels, as SVG: two panels a row, logarithmic from left to right. What has the same name has the same colour. */

export interface Series {
  name: string
  /** x ascending, all greater than 0. */
  points: [x: number, y: number][]
}

export interface Panel {
  title: string
  x: string
  y: string
  /** Otherwise linear from 0. */
  logY: boolean
  series: Series[]
  /** A value that should not be exceeded. */
  limit?: { name: string; value: number }
}

interface Scale {
  /** Value → position. */
  at(value: number): number
  ticks: number[]
}

const panelWidth = 480
const panelHeight = 360
const margin = { left: 60, right: 16, top: 40, bottom: 110 }
const headHeight = 40
const legendColumns = 2
const legendLineHeight = 16
const colors = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9']

/** The text of an SVG file. */
export function drawPlot(title: string, panels: readonly Panel[]): string {
  const width = panelWidth * 2
  const height = headHeight + panelHeight * Math.ceil(panels.length / 2)
  const names = [...new Set(panels.flatMap(({ series }) => series.map(({ name }) => name)))]
  const colorOf = (name: string) => colors[names.indexOf(name) % colors.length]!
  const drawn = panels.map((panel, index) => {
    const [left, top] = [(index % 2) * panelWidth, headHeight + Math.floor(index / 2) * panelHeight]
    return `<g transform="translate(${left} ${top})">\n${drawPanel(panel, colorOf)}\n</g>`
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(width / 2, 26, title, 'text-anchor="middle" font-size="18"'),
    ...drawn,
    '</svg>\n',
  ].join('\n')
}

function drawPanel(panel: Panel, colorOf: (name: string) => string): string {
  const x = logScale(
    panel.series.flatMap(({ points }) => points.map(([value]) => value)),
    margin.left,
    panelWidth - margin.right,
  )
  const values = panel.series.flatMap(({ points }) => points.map(([, value]) => value))
  if (panel.limit !== undefined) values.push(panel.limit.value)
  const y = (panel.logY ? logScale : linearScale)(values, panelHeight - margin.bottom, margin.top)
  return [
    text(margin.left, 24, panel.title, 'font-size="14" font-weight="bold"'),
    drawAxes(panel, x, y),
    ...(panel.limit === undefined ? [] : [drawLimit(panel.limit, y)]),
    ...panel.series.map((series) => drawSeries(series, colorOf(series.name), x, y)),
    ...panel.series.map(({ name }, index) => drawLegend(name, index, colorOf(name))),
  ].join('\n')
}

function drawAxes(panel: Panel, x: Scale, y: Scale): string {
  const [bottom, right] = [panelHeight - margin.bottom, panelWidth - margin.right]
  return [
    ...y.ticks.map((value) => {
      const at = y.at(value)
      return (
        line(margin.left, at, right, at, '#dddddd') +
        text(margin.left - 6, at + 4, short(value), 'text-anchor="end"')
      )
    }),
    ...x.ticks.map((value) => {
      const at = x.at(value)
      return (
        line(at, bottom, at, bottom + 5, '#444444') +
        text(at, bottom + 19, short(value), 'text-anchor="middle"')
      )
    }),
    line(margin.left, bottom, right, bottom, '#444444'),
    text(right, bottom + 34, panel.x, 'text-anchor="end"'),
    text(margin.left - 6, margin.top - 8, panel.y, 'text-anchor="end"'),
  ].join('\n')
}

function drawLimit({ name, value }: { name: string; value: number }, y: Scale): string {
  const right = panelWidth - margin.right
  const at = y.at(value)
  return `${line(margin.left, at, right, at, '#cc0000', 'stroke-dasharray="6 4"')}${text(right, at - 5, name, 'text-anchor="end" fill="#cc0000"')}`
}

function drawSeries({ points }: Series, color: string, x: Scale, y: Scale): string {
  const places = points.map(([a, b]) => [x.at(a).toFixed(1), y.at(b).toFixed(1)] as const)
  const path = places.map(([a, b]) => `${a},${b}`).join(' ')
  const dots = places.map(([a, b]) => `<circle cx="${a}" cy="${b}" r="3.5" fill="${color}"/>`)
  return `<polyline points="${path}" fill="none" stroke="${color}" stroke-width="2"/>${dots.join('')}`
}

function drawLegend(name: string, index: number, color: string): string {
  const columnWidth = (panelWidth - margin.left - margin.right) / legendColumns
  const left = margin.left + (index % legendColumns) * columnWidth
  const top = panelHeight - margin.bottom + 54 + Math.floor(index / legendColumns) * legendLineHeight
  return `<rect x="${left}" y="${top - 9}" width="12" height="10" fill="${color}"/>${text(left + 18, top, name)}`
}

/** From the power of ten below the least value to the one above the greatest. */
function logScale(values: readonly number[], from: number, to: number): Scale {
  const least = Math.floor(Math.log10(Math.min(...values)) + 1e-9)
  const most = Math.max(least + 1, Math.ceil(Math.log10(Math.max(...values)) - 1e-9))
  const ticks = Array.from({ length: most - least + 1 }, (_, step) => 10 ** (least + step))
  return { at: (value) => from + ((to - from) * (Math.log10(value) - least)) / (most - least), ticks }
}

/** From 0 to a round number above the greatest value. */
function linearScale(values: readonly number[], from: number, to: number): Scale {
  const steps = 4
  const greatest = Math.max(...values)
  const unit = 10 ** Math.floor(Math.log10(greatest / steps))
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * unit).find((size) => size * steps >= greatest)!
  const ticks = Array.from({ length: steps + 1 }, (_, index) => index * step)
  return { at: (value) => from + ((to - from) * value) / (steps * step), ticks }
}

function line(x1: number, y1: number, x2: number, y2: number, color: string, more = ''): string {
  return `<line x1="${x1.toFixed(1)}" y1="${y1.toFixed(1)}" x2="${x2.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${color}" ${more}/>`
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${escaped(content)}</text>`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
}

/** 10000 → 10k. */
function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`
  if (value >= 1e3) return `${Number((value / 1e3).toPrecision(3))}k`
  return String(Number(value.toPrecision(3)))
}
