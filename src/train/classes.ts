/** Classes in words, for messages: `4 classes (bird, dog, insect, reptile)`, at most six by name. */
export function describeClasses(classes: readonly string[]): string {
  const shown = classes.slice(0, 6).join(', ') + (classes.length > 6 ? ', …' : '');
  return `${classes.length} ${classes.length === 1 ? 'class' : 'classes'} (${shown})`;
}
