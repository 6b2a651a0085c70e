/** Numbers as a person reads them. */

/**
 * `value` to `digits` significant digits (default 4): plain between 0.001 and a million, otherwise with an exponent (`1.5e-4`). Trailing
 * zeros are dropped unless `fixed`.
 */
export function formatNumber(value: number, digits = 4, fixed = false): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (value === 0) return '0';
  const [mantissa, exponentText] = value.toExponential(digits - 1).split('e');
  const exponent = Number(exponentText);
  const trim = (text: string): string => (fixed || !text.includes('.') ? text : text.replace(/\.?0+$/, ''));
  if (exponent < -3 || exponent >= 6) return `${trim(mantissa)}e${exponent}`;
  return groupThousands(trim(Number(`${mantissa}e${exponent}`).toFixed(Math.max(0, digits - 1 - exponent))));
}

/** A whole number with commas between thousands. */
export function formatCount(value: number): string {
  return groupThousands(value.toFixed(0));
}

function groupThousands(text: string): string {
  const [whole, fraction] = text.split('.');
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ',');
  return fraction === undefined ? grouped : `${grouped}.${fraction}`;
}

/** A fraction as percent, with `decimals` places (default 2): 0.98765 as `98.77 %`. */
export function formatPercent(fraction: number, decimals = 2): string {
  return Number.isFinite(fraction) ? `${(100 * fraction).toFixed(decimals)} %` : formatNumber(fraction);
}

/** Seconds in the two largest units that matter: `0.35 s`, `12 s`, `4m05s`, `1h02m`, `3d04h`. */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return '?';
  const sign = seconds < 0 ? '-' : '';
  const size = Math.abs(seconds);
  if (size < 0.9995) return `${sign}${Number(size.toPrecision(size < 0.1 ? 1 : 2))} s`;
  if (size < 9.95) return `${sign}${size.toFixed(1)} s`;
  const whole = Math.round(size);
  const [days, hours, minutes, rest] = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  const two = (n: number): string => String(n).padStart(2, '0');
  if (days > 0) return `${sign}${days}d${two(hours)}h`;
  if (hours > 0) return `${sign}${hours}h${two(minutes)}m`;
  if (minutes > 0) return `${sign}${minutes}m${two(rest)}s`;
  return `${sign}${rest} s`;
}

const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** Bytes in powers of 1000 with three significant digits: `999 B`, `1.5 kB`, `104 MB`. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return formatNumber(bytes);
  let value = bytes;
  let unit = 0;
  // 999.5 would be rounded to 1000.
  while (Math.abs(value) >= 999.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${Number(value.toPrecision(3))} ${BYTE_UNITS[unit]}`;
}
