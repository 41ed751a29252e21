// Loads packages from the folder that TEST_NODE_MODULES names: they are not installed beside these scripts.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(join(process.env.TEST_NODE_MODULES, 'from-here.cjs'));

export const load = (name) => import(pathToFileURL(require.resolve(name)));
