package a

func found(work func() error) error {
	if err := work(); err != nil {
		return nil // want `error is not nil`
	}
	return nil
}
