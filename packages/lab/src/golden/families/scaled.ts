import type { Translation } from '../subjects.ts';

export const translations: Readonly<Record<string, Translation>> = {};
