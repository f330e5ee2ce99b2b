package queue

import "time"

// youngest is the age below which mail is counted in the first of Ages. Each further count
// reaches twice as far, and the last one has what is older.
const youngest = 5 * time.Minute

// Ages is how many recipients wait by how long their message has been in the queue: less than
// 5, 10, 20, 40, 80, 160, 320, 640, and 1,280 minutes, and longer, as Postfix's qshape counts.
type Ages [10]int

// AgeBounds returns the age below which each count but the last one of Ages is.
func AgeBounds() []time.Duration {
	bounds := make([]time.Duration, len(Ages{})-1)
	for i := range bounds {
		bounds[i] = youngest << i
	}
	return bounds
}

// Add counts recipients of an age.
func (a *Ages) Add(age time.Duration, recipients int) {
	i := 0
	for bound := youngest; i < len(a)-1 && age >= bound; bound *= 2 {
		i++
	}
	a[i] += recipients
}
