import picomatch from 'picomatch'

/**
 * What `find` looks for. A pattern with glob characters (`*`, `?`, `[…]`, `{a,b}`) must match the whole name, or the
 * whole path where it has a `/`; any other is looked for as a part of the path. Large and small letters differ.
 */
export function compileSearch(pattern: string): (path: string) => boolean {
  if (!/[*?[{]/.test(pattern)) return (path) => path.includes(pattern)
  const source = picomatch.makeRe(pattern, { dot: true, nonegate: true, posix: true }).source
  const glob = new RegExp(source, 's')
  if (pattern.includes('/')) return (path) => glob.test(path)
  return (path) => glob.test(path.slice(path.lastIndexOf('/') + 1))
}
