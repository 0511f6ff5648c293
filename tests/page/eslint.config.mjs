// Rules for the widgets' scripts, joined by tests/page/joined.py as the page joins them. See `make lint-page`.
import globals from 'globals';

const given = { element: 'readonly', trigger: 'readonly', props: 'readonly', watch: 'readonly' };     // by Gradio
export default [{
  files: ['**/*.js'],
  languageOptions: { sourceType: 'script', globals: { ...globals.browser, ...given } },
  rules: {
    'no-undef': 'error', 'no-const-assign': 'error', 'no-dupe-keys': 'error', 'no-unreachable': 'error',
    'no-redeclare': ['error', { builtinGlobals: false }],
    'no-unused-vars': 'off',      // the shared helpers are joined to widgets that need some of them
  },
}];
