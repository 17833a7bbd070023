import picomatch from 'picomatch'

/**
 * What `find` looks for. A pattern with glob characters (`*`, `?`, `[…]`, `{a,b}`) must match the whole name, or
 * where it has a `/` the end of the path, or all of it where it begins with `/`; any other is looked for as a part of the path. Large and small letters differ.
 */
export function compileSearch(pattern: string): (path: string) => boolean {
  if (!/[*?[{]/.test(pattern)) return (path) => path.includes(pattern)
  const anyDepth = pattern.includes('/') && !pattern.startsWith('/') ? `**/${pattern}` : pattern
  const source = picomatch.makeRe(anyDepth, { dot: true, nonegate: true, posix: true }).source
  const glob = new RegExp(source, 's')
  if (pattern.includes('/')) return (path) => glob.test(path)
  return (path) => glob.test(path.slice(path.lastIndexOf('/') + 1))
}
